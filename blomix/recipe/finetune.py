"""`blomix.finetune`: from a pretrained encoder and labelled texts to a scored, exported model."""

import hashlib
import time
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from blomix.data import Examples, digest_of
from blomix.errors import is_out_of_memory
from blomix.evaluation import metrics, resampling
from blomix.recipe import artifacts
from blomix.recipe.drive import drive
from blomix.recipe.job import Job, predict_logits
from blomix.recipe.phase import Fitted, Phase, Recorder, Unrecorded
from blomix.recipe.preparation import Labelled, prepare
from blomix.recipe.probe import head_of
from blomix.recipe.program import ONE_DEVICE, Placement, Program, build, device_memory, stack
from blomix.recipe.progress import Progress
from blomix.recipe.recipe import Recipe
from blomix.recipe.result import Result
from blomix.recipe.training import Training
from blomix.runs.processes import agreed, is_first, leaving_together, told
from blomix.small_files import read_text

if TYPE_CHECKING:
    from blomix.encoders import Encoder


def finetune(
    model: "Encoder",
    train: Labelled,
    validation: Labelled | None = None,
    recipe: Training | None = None,
    *,
    seed: int = 0,
    run_dir: str | Path | None = None,
    max_length: int = 128,
    together: bool | None = None,
    place: Placement = ONE_DEVICE,
    checkpoint_every: float = 60.0,
    settings: dict[str, Any] | None = None,
    quiet: bool = False,
) -> Result:
    """Finetunes `model` and scores it.

    Args:
      model: from `Encoder.from_pretrained`.
      train: labelled examples, or a pair of texts (or of text pairs) and labels.
      validation: what the score is measured on and no step sees; without it a stratified 20 % of
        `train` is held out, and a note says so.
      recipe: any method: `Recipe()` (the default), `Recipe.paper()`, a baseline.
      seed: draws folds, batches, dropout masks and new weights.
      run_dir: where checkpoints, logs and the export go. The same call again resumes an interrupted
        run bit for bit, and returns a finished one as it is. Several processes share one directory.
      max_length: longest row in tokens; longer ones are cut.
      together: advance the folds in one compiled step (more memory, fewer dispatches); None: where
        that step fits the device, or the mesh splits folds. A resumed run keeps to what it
        began with.
      place: the devices; one by default, a mesh by `blomix.parallel.mesh.OnMesh`.
      checkpoint_every: seconds between checkpoints.
      settings: what the caller wants in config.toml beside the resolved settings.
      quiet: no progress, no notes.

    Raises:
      InputError: data that cannot be trained on, or a run directory of another run.
    """
    recipe = Recipe() if recipe is None else recipe
    progress = Progress(quiet or not is_first())
    # Before the run directory is made, for it refuses what cannot be trained.
    job, train, validation, rows = prepare(
        model, train, validation, recipe, seed, max_length, place, progress
    )
    if together is None:
        together = told(recorded_together(run_dir))
    if together is None:
        together = told(folds_fit(job, recipe, place))
    resolved = resolve(job, recipe, together)
    known = resolved | {"leaked_rows": rows["leakage"]["rows"]}
    if run_dir is None:
        with leaving_together():
            fitted, cost = fit(job, recipe, Unrecorded(), progress, together, place)
        return score(job, validation, fitted, known | cost, progress)[0]
    from blomix.encoders.options import Options
    from blomix.runs import Run, open_run

    digests = {
        "train": train.digests,
        "validation": validation.digests,
        # The same names may hold another encoder or tokenizer than when the run began.
        "weights": tree_digest(model.params),
        "tokens": tree_digest(job.arrays),
    }
    settings = settings or {}
    config = settings | {"resolved": resolved}
    # Of settings that a run of an earlier version has not; what a flag does is resolved, or in the
    # data.
    defaults = settings | {"resolved": {"recipe": recipe.defaults(), "model": asdict(Options())}}
    with (
        open_run(run_dir, config, digests, checkpoint_every, defaults) as run,
        leaving_together(),
    ):
        if told((run.path / "result.json").exists()):
            progress.note(f"{run_dir} is finished; its result stands")
            return Result.load(run_dir)
        run.write_json("splits.json", rows)
        fitted, cost = fit(job, recipe, run, progress, together, place)
        if isinstance(run, Run):
            cost["seconds"] = round(run.elapsed, 3)  # earlier sessions' as well
        summary = known | cost | {"run_dir": str(run_dir)}
        result, logits = score(job, validation, fitted, summary, progress)
        if isinstance(run, Run):
            agreed(lambda: artifacts.write(run, job, fitted, validation, logits, result))
        else:  # the first process writes; all end when it has
            agreed(lambda: None)
    return result


def dry_run(
    model: "Encoder",
    train: Labelled,
    validation: Labelled | None,
    recipe: Training,
    *,
    seed: int = 0,
    max_length: int = 128,
    together: bool | None = None,
    place: Placement = ONE_DEVICE,
    quiet: bool = False,
) -> dict[str, Any]:
    """The resolved settings, parameter counts and a memory estimate; nothing is trained.

    The estimate is the compiler's for the first phase: arguments and temporaries of one step.
    """
    arguments = model, train, validation, recipe, seed, max_length, place, Progress(quiet)
    job, *_ = prepare(*arguments)
    phase = next(recipe.fit(job), None)  # the probe has none
    steps, memory = 0, {}
    if together is None:
        together = phase is not None and folds_fit(job, recipe, place)
    if phase is not None:
        steps = phase.steps * len(phase.lanes)
        memory = first_program(phase, together, place).memory
    sizes = [leaf.size for leaf in jax.tree.leaves(model.params)]
    return resolve(job, recipe, together) | {
        "parameters": sum(sizes),
        "mixed_parameters": sum(leaf.size for leaf in artifacts.mixable(model).values()),
        "tokens": job.arrays["input_ids"].shape[1],
        "first_phase": None if phase is None else phase.name,
        "first_phase_steps": steps,
        "memory_bytes": memory,
    }


def recorded_together(run_dir: str | Path | None) -> bool | None:
    """What the run in `run_dir` began with; None where there is none."""
    if run_dir is None:
        return None
    from blomix.runs.identity import has_work

    try:
        if not has_work(Path(run_dir)):  # another setting may begin in its place
            return None
        config = tomllib.loads(read_text(Path(run_dir) / "config.toml"))
        return config["resolved"]["together"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None  # damage is told of when the run is opened


def folds_fit(job: Job, recipe: Training, place: Placement) -> bool:
    """Whether the mesh splits folds, or their step fits the device by the compiled program."""
    if recipe.lanes == 1 or place.lanes > 1:
        return recipe.lanes > 1
    room = room_together()
    if room == 0:
        return False
    try:
        phase = next(recipe.fit(job), None)
        if phase is None or len(phase.lanes) < recipe.lanes:  # no step, or not the widest one
            return False
        return first_program(phase, True, place).bytes < room
    except Exception as error:
        if is_out_of_memory(error):  # a compiler may refuse what does not fit
            return False
        raise


def room_together() -> int:
    """Bytes that lanes may take to advance together.

    0 on a CPU: all lanes share its cores already, and the wide step takes longer to compile than
    its fewer dispatches save.
    """
    return 0 if jax.default_backend() == "cpu" else device_memory()


def first_program(phase: Phase, together: bool, place: Placement) -> Program:
    """The compiled step of a phase, for its lanes one by one or together."""
    stacked = together and len(phase.lanes) > 1
    if stacked:
        phase = stack(phase, range(len(phase.lanes)), place)
    return build(phase, place, stacked)


def resolve(job: Job, recipe: Training, together: bool) -> dict[str, Any]:
    """All that decides the outcome, as config.toml and result.json keep it."""
    recipe = replace(recipe, head_init=head_of(recipe.head_init, job.train))
    return {
        "method": recipe.name,
        "recipe": {name: value for name, value in asdict(recipe).items() if value is not None},
        "seed": job.seed,
        "max_length": job.max_length,
        "together": together,
        "metric": job.train.metric,
        "labels": list(job.train.label_names or []),
        "train_size": len(job.train),
        "data": job.train.name,
        "model": describe(job.encoder),
    }


def describe(encoder: "Encoder") -> dict[str, Any]:
    """Which encoder, and how it computes."""
    return {
        "source": encoder.source.name if encoder.source else "random weights",
        "commit": encoder.commit,
        "pooling": encoder.pooling,
        "dtype": encoder.model.options.dtype,
        "attention": encoder.model.options.attention,
        "remat": encoder.model.options.remat,
        "scan_layers": encoder.model.options.scan_layers,
        "train_embeddings": encoder.model.options.train_embeddings,
        "dropout": encoder.architecture.dropout.rates(),
    }


def tree_digest(tree: Any) -> str:
    """One digest of all arrays: their places, dtypes, shapes and bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def fit(
    job: Job,
    recipe: Training,
    recorder: Recorder,
    progress: Progress,
    together: bool,
    place: Placement,
):
    """Runs a method to its end; returns what it fitted and what that cost."""
    started = time.monotonic()
    width = recipe.lanes if together else 1
    (fitted,), steps, gradients = drive([recipe.fit(job)], recorder, progress, width, place)
    seconds = round(time.monotonic() - started, 3)
    return fitted, {"steps": steps, "gradient_evaluations": gradients, "seconds": seconds}


def score(
    job: Job, validation: Examples, fitted: Fitted, summary: dict[str, Any], progress: Progress
) -> tuple[Result, np.ndarray]:
    """The fitted model with its metrics on the validation examples, and its logits there."""
    arrays = job.encoder.encode(validation, job.max_length)
    logits = predict_logits(job.encoder, fitted.params, arrays, progress=progress)
    scores = metrics.evaluate(validation.metric, validation.targets, logits)
    majority = metrics.majority(
        validation.metric, job.train.targets, validation.targets, validation.num_labels
    )
    spread = resampling.spread(validation.metric, validation.targets, logits)
    scored = {
        "score": scores.pop("score"),
        "majority_score": majority,
        "metrics": scores,
        "intervals": {name: [found.low, found.high] for name, found in spread.items()},
        "validation_size": len(validation),
        # Paths, or hub ids with the commits they were resolved to.
        "sources": {"train": job.train.source, "validation": validation.source},
        "digests": {
            "train": digest_of(job.train.digests),
            "validation": digest_of(validation.digests),
        },
        "pairs": validation.pairs is not None,
        "columns": None if job.train.columns is None else asdict(job.train.columns),
        "facts": fitted.facts,
    }
    return Result(job.encoder, fitted.params, summary | scored), logits
