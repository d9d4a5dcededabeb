"""Finetune an encoder on labelled texts, score it and export it.

Trained on: --task NAME (a GLUE task, or a folder with train.tsv and validation.tsv) or --train FILE
(CSV, TSV, JSON lines, Parquet). Running the same command again resumes an interrupted run.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from blomix.cli.labels import REGRESSION, LabelKind, Metric, scored_by
from blomix.errors import InputError


@dataclass(frozen=True)
class Config:
    """Flags of `blomix finetune`."""

    model: str
    """Directory or hub id of a pretrained encoder."""
    revision: str | None = None
    """Commit, branch or tag of a hub model; the newest of its main branch if left out."""
    task: str | None = None
    """GLUE task name, hub data set, or folder with train and validation files."""
    train: Path | None = None
    """File of labelled examples."""
    validation: Path | None = None
    """File the score is measured on; without it a stratified 20 % of the training examples."""
    text: str | None = None
    """Column of the text; found by its name if left out."""
    text_pair: str | None = None
    """Column of the second text of a pair."""
    label: str | None = None
    """Column of the label; found by its name if left out."""
    label_kind: LabelKind = "auto"
    """What the labels are; auto takes numbers with a fractional part for values."""
    metric: Metric = "auto"
    """The score; auto: a known task's own, else accuracy, or Spearman's correlation of values. f1
    is that of the class whose name comes last where there are two, else the mean over classes."""
    train_size: int | None = None
    """Use a stratified draw of this many training examples; without validation data the scored
    20 % are of these too."""
    subset_seed: int | None = None
    """Seed of that draw, if not --seed."""
    method: str = "blomix"
    """Finetuning method: blomix, plain, soup, joint, random_alpha, l2sp, mixout, rdrop, r3f, hype,
    child_tuning, reinit, top_layers, lora, bitfit, sam, ema, wise_ft, lp_ft or probe."""
    recipe: Literal["default", "paper", "released"] = "default"
    """Which settings the method blomix starts from."""
    epochs: float | None = None
    """Passes over the training examples in the finetuning phase."""
    batch_size: int | None = None
    """Examples a step."""
    accumulate: int | None = None
    """Parts that a batch is computed in, one after the other, for less memory."""
    learning_rate: float | None = None
    """Peak learning rate of the task weights, in every phase."""
    head_init: Literal["auto", "random", "probe"] | None = None
    """Start of the classifier: drawn from the seed (where the checkpoint has none that fits), or a
    regression on frozen features; auto: the regression for single texts, the seed for pairs. If
    left out, the method's own (blomix: auto)."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=VALUE, any other setting of the method, such as folds=3; a wrong NAME lists all. May be
    repeated."""
    max_length: int = 128
    """Longest text, in tokens."""
    pooling: Literal["auto", "pooler", "cls", "mean"] = "auto"
    """What the head sees of the encoder's output."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; weights stay float32."""
    remat: bool = False
    """Recompute each layer's activations: less memory, more time."""
    scan_layers: bool = False
    """Stack the layers and scan over them: much faster to compile, with --remat the least memory; a
    step may take a little longer."""
    together: Literal["auto", "yes", "no"] = "auto"
    """Advance all folds in one compiled step; auto: where that fits an accelerator's memory
    or --mesh splits them."""
    mesh: str | None = None
    """Devices by axis, as in ensemble=1,data=2,model=4; one device if left out."""
    coordinator: str | None = None
    """HOST:PORT of process 0 where several processes train as one; auto on a TPU pod."""
    processes: int | None = None
    """How many processes there are; not with auto."""
    process: int | None = None
    """Which of them this is, from 0; not with auto."""
    seed: int = 0
    """Draws splits, batches, dropout masks and new weights."""
    run_dir: Path | None = None
    """Run directory; runs/<model>-<data>-<method>-<seed> if left out."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""
    dry_run: bool = False
    """Print the resolved settings, parameter counts and a memory estimate, and stop."""
    json: bool = False
    """Print the result as one JSON line, and nothing else."""


def run(config: Config) -> dict[str, Any]:
    from blomix.data import load, subsample
    from blomix.encoders import Encoder
    from blomix.parallel import hosts
    from blomix.recipe import finetune
    from blomix.recipe.finetune import dry_run

    hosts.join(config.coordinator, config.processes, config.process)
    method = method_of(config)
    source, columns = source_of(config), columns_of(config)
    train = scored_by(config.metric, load(source, **columns, split="train"))
    validation = None
    if config.validation is not None or config.task is not None:
        validation = scored_by(
            config.metric,
            load(config.validation or source, **columns | train.kind, split="validation"),
        )
    if config.train_size is not None:
        seed = config.seed if config.subset_seed is None else config.subset_seed
        train = subsample(train, config.train_size, seed)
    model = Encoder.from_pretrained(
        config.model,
        **train.head,
        pooling=config.pooling,
        seed=config.seed,
        revision=config.revision,
        dtype=config.dtype,
        remat=config.remat,
        scan_layers=config.scan_layers,
    )
    options = {
        "seed": config.seed,
        "max_length": config.max_length,
        "together": {"auto": None, "yes": True, "no": False}[config.together],
        "place": placement(config),
    }
    if config.dry_run:
        return dry_run(model, train, validation, method, quiet=config.json, **options)
    result = finetune(
        model,
        train,
        validation,
        method,
        run_dir=config.run_dir or default_run_dir(config),
        settings=settings_of(config),
        checkpoint_every=config.checkpoint_every,
        quiet=config.json,
        **options,
    )
    return result.summary


def text(result: dict[str, Any]) -> str:
    if "score" not in result:
        return "\n".join(f"{name}: {value}" for name, value in result.items())
    without = "majority class" if result["labels"] else "ignoring the text"
    return (
        f"{result['metric']} {result['score']:.4f} ({without} {result['majority_score']:.4f}) "
        f"on {result['validation_size']} examples, trained on {result['train_size']}\n"
        f"run: {result['run_dir']}\nmodel: {result['run_dir']}/export"
    )


def placement(config: Config):
    """The devices of `--mesh`; by default one, or where processes have joined all of them."""
    import jax

    from blomix.parallel.mesh import OnMesh, Shape
    from blomix.recipe.program import ONE_DEVICE
    from blomix.runs.processes import several

    if config.mesh is not None:
        return OnMesh.of(Shape.parse(config.mesh))
    return OnMesh.of(Shape(data=jax.device_count())) if several() else ONE_DEVICE


def method_of(config: Config):
    """The method with the flags' settings over its defaults."""
    from blomix.baselines import METHODS
    from blomix.recipe import Recipe

    if config.method not in METHODS:
        raise InputError(f"--method: no method {config.method!r}; there are {', '.join(METHODS)}")
    kind = METHODS[config.method]
    changes = {
        name: getattr(config, name)
        for name in ("epochs", "batch_size", "accumulate", "learning_rate", "head_init")
        if getattr(config, name) is not None
    }
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if config.learning_rate is not None and "search_learning_rate" in fields:
        changes["search_learning_rate"] = config.learning_rate
    changes |= dict(_parsed(item, kind, fields) for item in config.set)
    if kind is not Recipe and config.recipe != "default":
        raise InputError(f"--recipe {config.recipe} is a setting of --method blomix")
    make = {"paper": Recipe.paper, "released": Recipe.released}.get(config.recipe, kind)
    return make(**changes)


def _parsed(item: str, kind: type, fields: dict) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    name = name.replace("-", "_")
    if not equals or name not in fields:
        raise InputError(f"--set {item}: expected NAME=VALUE with NAME of {', '.join(fields)}")
    default = getattr(kind(), name)
    try:
        if default is None or isinstance(default, bool):
            words = {"none": None, "true": True, "false": False}
            return name, words[value.lower()] if value.lower() in words else int(value)
        return name, type(default)(value)
    except (ValueError, KeyError):
        expected = "int, or none" if default is None else type(default).__name__
        raise InputError(f"--set {item}: expected a value of type {expected}") from None


def source_of(config: Config) -> str | Path:
    if config.train is not None and config.task is None:
        return config.train
    if config.task is not None and config.train is None:
        return config.task
    raise InputError("expected either --task NAME or --train FILE, found both or neither")


def columns_of(config: Config) -> dict[str, Any]:
    return {
        "text": config.text,
        "text_pair": config.text_pair,
        "label": config.label,
        "regression": REGRESSION[config.label_kind],
    }


def settings_of(config: Config) -> dict[str, Any]:
    """The flags that decide the outcome, so that `--config RUN/config.toml` repeats the run."""
    skipped = {"run_dir", "json", "dry_run", "checkpoint_every", "set", "mesh"}
    skipped |= {"coordinator", "processes", "process"}
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(config).items()
        if name not in skipped and value is not None
    }
    return settings | ({"set": list(config.set)} if config.set else {})


def default_run_dir(config: Config) -> Path:
    data = Path(source_of(config)).stem
    parts = [Path(config.model).name, data, config.method, str(config.seed)]
    return Path("runs") / re.sub(r"[^\w.-]+", "_", "-".join(parts))
