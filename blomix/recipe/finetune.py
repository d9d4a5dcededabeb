"""`blomix.finetune`: from a pretrained encoder and labelled texts to a scored, exported model."""

import hashlib
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from blomix.data import (
    Examples,
    cut_rows,
    digest_of,
    examples_of,
    holdout,
    leak_remarks,
    reading,
    remarks,
)
from blomix.errors import InputError
from blomix.evaluation import metrics, resampling
from blomix.recipe import artifacts
from blomix.recipe.drive import drive
from blomix.recipe.job import Job, predict_logits
from blomix.recipe.phase import Fitted, Phase, Recorder, Unrecorded
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

Labelled = Examples | tuple[Sequence, Sequence]


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
    from blomix.runs import Run, open_run

    digests = {
        "train": train.digests,
        "validation": validation.digests,
        # The same names may hold another encoder or tokenizer than when the run began.
        "weights": tree_digest(model.params),
        "tokens": tree_digest(job.arrays),
    }
    config = (settings or {}) | {"resolved": resolved}
    with (
        open_run(run_dir, config, digests, checkpoint_every=checkpoint_every) as run,
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


def prepare(
    model: "Encoder",
    train: Labelled,
    validation: Labelled | None,
    recipe: Training,
    seed: int,
    max_length: int,
    place: Placement,
    progress: Progress,
) -> tuple[Job, Examples, Examples, dict[str, Any]]:
    """(training task, all its examples, the scored ones, record of the splits); tells what may be a
    mistake in them.

    Raises:
      InputError: what cannot be trained.
    """
    check_arguments(model, recipe, seed)
    check_rows(recipe, place)
    model, train, validation = matched(model, *splits(model, train, validation, seed, progress))
    job = job_of(model, train, recipe, seed, max_length)
    rows = artifacts.splits_record(job, recipe, validation)
    if not progress.quiet:
        for line in remarks_on(job, validation, rows):
            progress.note(line)
    return job, train, validation, rows


def check_arguments(model: "Encoder", recipe: Training, seed: int) -> None:
    """Raises InputError at an argument of another kind: what a person may well try."""
    from blomix.encoders import Encoder

    if not isinstance(model, Encoder):
        raise InputError(
            f"model: expected an encoder, as Encoder.from_pretrained gives, found {model!r}"
        )
    if not isinstance(recipe, Training):
        raise InputError(f"recipe: expected a method such as Recipe() or Plain(), found {recipe!r}")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed: expected a whole number of at least 0, found {seed!r}")


def check_rows(recipe: Training, place: Placement) -> None:
    """Raises InputError unless the devices can share out what is computed at once of a batch."""
    rows = recipe.batch_size // recipe.accumulate
    if rows % place.rows:
        raise InputError(
            f"mesh: {rows} rows of a batch (batch_size {recipe.batch_size}, accumulate "
            f"{recipe.accumulate}) cannot be split evenly over {place.rows} devices; give another "
            "mesh or batch size"
        )
    if recipe.lanes > 1 and recipe.lanes % place.lanes:
        raise InputError(
            f"mesh: {recipe.lanes} folds or finishes cannot be split evenly over {place.lanes} "
            "devices; give another mesh or number of them"
        )


def splits(
    model: "Encoder",
    train: Labelled,
    validation: Labelled | None,
    seed: int,
    progress: Progress,
):
    """Training and scored examples; the latter are held out where there are none."""
    train = examples_of(train, regression=model.regression or None)
    train.targets  # noqa: B018 - raises where there are none
    progress.note(reading(train))
    if validation is not None:
        scored = examples_of(validation, like=train)
        scored.targets  # noqa: B018
        scored.check_paired(train.pairs is not None, "the training examples")
        return train, scored
    rows, held = holdout(train, 0.2, seed)
    progress.note(
        f"no validation data: {len(held)} of {len(train)} examples, drawn evenly over the labels, "
        "are held out for the score"
    )
    return train.select(rows), train.select(held)


def matched(model: "Encoder", train: Examples, validation: Examples):
    """The three with one numbering of the classes: the model's, where it names them.

    Raises:
      InputError: a head for other labels than these.
    """
    needed = train.is_regression, train.num_labels
    if needed != (model.regression, model.num_labels):
        heads = [
            "values" if regression else f"{number} classes"
            for regression, number in (needed, (model.regression, model.num_labels))
        ]
        raise InputError(
            f"model: expected a head for {heads[0]}, as {train.name} has them, found one for "
            f"{heads[1]}; load it with Encoder.from_pretrained(path, num_labels, regression=...)"
        )
    names = model.label_names or train.label_names
    if set(names or ()) != set(train.label_names or ()):
        raise InputError(
            f"model: expected a head for the classes {', '.join(train.label_names or ())} of "
            f"{train.name}, found one for {', '.join(names or ())}; load it with "
            "Encoder.from_pretrained(path, label_names=...)"
        )
    model = replace(model, labels=replace(model.labels, names=names))
    return model, train.like(names, model.regression), validation.like(names, model.regression)


def job_of(model: "Encoder", train: Examples, recipe: Training, seed: int, max_length: int) -> Job:
    """The training task; with `recipe.patience` another 20 % is held out, to stop on."""
    held = held_arrays = None
    if recipe.patience is not None:
        rows, held_rows = holdout(train, 0.2, seed)
        train, held = train.select(rows), train.select(held_rows)
        held_arrays = model.encode(held, max_length)
    if not train.is_regression and len(np.unique(train.targets)) < 2:
        raise InputError(
            f"{train.name}: expected training rows of two classes or more, found {len(train)} "
            f"labelled {train.label(0)!r}"
        )
    arrays = model.encode(train, max_length)
    return Job(model, train, arrays, seed, max_length, held, held_arrays)


def remarks_on(job: Job, validation: Examples, rows: dict[str, Any]) -> Iterator[str]:
    """What may be a mistake in the data, or in the length that its texts are given; `rows` is the
    record of the splits."""
    yield from remarks(job.train, rows["duplicates"]["train"])
    yield from leak_remarks(validation, rows["leakage"])
    if cut := cut_rows(job.train, job.encoder.tokenizer, job.arrays, job.max_length):
        yield (
            f"{job.train.name}: {cut} of {len(job.train)} training texts are longer than "
            f"{job.max_length} tokens and are cut; --max-length sets it"
        )


def recorded_together(run_dir: str | Path | None) -> bool | None:
    """What the run in `run_dir` began with; None where there is none."""
    if run_dir is None:
        return None
    try:
        config = tomllib.loads(read_text(Path(run_dir) / "config.toml"))
        return config["resolved"]["together"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None  # damage is told of when the run is opened


def folds_fit(job: Job, recipe: Training, place: Placement) -> bool:
    """Whether the mesh splits folds, or their step fits the device by the compiled program."""
    if recipe.lanes == 1 or place.lanes > 1:
        return recipe.lanes > 1
    room = room_together()
    return room > 0 and first_program(next(recipe.fit(job)), True, place).bytes < room


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
    majority = metrics.majority(validation.metric, job.train.targets, validation.targets)
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
