"""A small trial on your own file before the roll-out: is finetuning worth it, on how many labels?

Trains a regression on the frozen encoder, plain finetuning and blomix on repeated stratified
splits within a time budget, fits a learning curve, and decides: go, collect more labels, or use
the simpler model. Each is trained as by `blomix finetune`, with flags that the page names for the
winner; plain finetuning takes as many steps as blomix in all.
"""

import math
import re
import shlex
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from blomix.cli import finetune
from blomix.cli.labels import REGRESSION, LabelKind, Metric, scored_by
from blomix.errors import InputError

_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Config:
    """Flags of `blomix pilot`."""

    model: str
    """Directory or hub id of a pretrained encoder."""
    train: Path
    """File of all the labelled examples there are."""
    revision: str | None = None
    """Commit, branch or tag of a hub model; the newest of its main branch if left out."""
    budget: str = "20m"
    """Time to spend, such as 90s, 20m or 2h. The first model of a method is trained to its end."""
    splits: int = 10
    """Most splits of the examples into a training and a scored part."""
    target: float | None = None
    """Score that is needed; without it, whatever the better method reaches."""
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
    folds: int = 3
    """Folds of blomix's search."""
    epochs: float = 9.0
    """Passes over the labels in blomix's finetuning, after one of each fold's search."""
    learning_rate: float = 5e-5
    """Peak learning rate of the task weights."""
    head_init: Literal["auto", "random", "probe"] = "auto"
    """Start of the classifier, of plain finetuning too: drawn from the seed, or the regression on
    frozen features; auto: the regression for single texts, the seed for pairs."""
    max_length: int = 128
    """Longest text, in tokens."""
    pooling: Literal["auto", "pooler", "cls", "mean"] = "auto"
    """What the head sees of the encoder's output."""
    seed: int = 0
    """Draws splits, batches, dropout masks and new weights."""
    out: Path = Path("pilot")
    """Folder to write pilot.json and pilot.html to."""
    json: bool = False
    """Print the result as one JSON line, and nothing else."""


def run(config: Config) -> dict[str, Any]:
    from blomix.data import cut_remarks, duplicates, load, reading, remarks
    from blomix.encoders import Encoder
    from blomix.pilot.decision import COLLECT, decide
    from blomix.pilot.page import write_page
    from blomix.pilot.trial import run_trial
    from blomix.recipe.progress import Progress
    from blomix.runs.files import plain, storage
    from blomix.runs.signals import sigterm_as_interrupt

    note = Progress(quiet=config.json).note
    budget = seconds_of(config.budget)
    if config.target is not None and not math.isfinite(config.target):
        raise InputError(f"--target: expected a finite score, found {config.target}")
    with storage(config.out, "write to"):
        done = (config.out / "pilot.json").exists()
    if done:
        raise InputError(f"{config.out}: has the result of a trial; give --out another folder")
    examples = load(
        config.train,
        text=config.text,
        text_pair=config.text_pair,
        label=config.label,
        regression=REGRESSION[config.label_kind],
    )
    examples = scored_by(config.metric, examples)
    encoder = Encoder.from_pretrained(
        config.model,
        **examples.head,
        pooling=config.pooling,
        seed=config.seed,
        revision=config.revision,
    )
    arrays = encoder.encode(examples, config.max_length)  # a length that cannot be is refused here
    with storage(config.out, "write to"):  # told before the budget is spent, not after
        (config.out / "figures").mkdir(parents=True, exist_ok=True)
    flags = flags_of(config)
    note(reading(examples))
    repeats = duplicates(examples)
    cut = cut_remarks(examples, encoder.tokenizer, arrays, config.max_length)
    for remark in (*remarks(examples, repeats), *cut):
        note(remark)
    if repeats["rows"]:
        note(
            f"{examples.name}: {repeats['rows']} rows repeat the text of another; on both sides of "
            "a split they make the score say less about new texts"
        )
    with sigterm_as_interrupt():
        cells, left_out = run_trial(
            encoder,
            examples,
            {name: finetune.method_of(own) for name, own in flags.items()},
            budget,
            seed=config.seed,
            max_length=config.max_length,
            splits=config.splits,
            note=note,
        )
    decision = decide(cells, config.target, len(examples), left_out)
    result = {
        "decision": decision.kind,
        "method": decision.method,
        "command": None if decision.kind == COLLECT else line(flags[decision.method]),
        "headline": decision.headline,
        "reasons": list(decision.reasons),
        "labels": None if decision.labels is None else asdict(decision.labels),
        "metric": examples.metric,
        "data": examples.name,
        "examples": len(examples),
        "budget_seconds": budget,
        "target": config.target,
        "gains": [asdict(gain) for gain in decision.gains],
        "cells": [asdict(cell) for cell in cells],
    }
    page = write_page(decision, cells, result, config.out)
    return plain(result) | {"page": str(page)}


def text(result: dict[str, Any]) -> str:
    lines = [f"{result['headline']}.", *result["reasons"], f"page: {result['page']}"]
    return "\n".join(lines + ([f"next: {result['command']}"] if result["command"] else []))


def flags_of(config: Config) -> dict[str, finetune.Config]:
    """The flags of `blomix finetune` that each of the three methods is trained by."""
    from blomix.recipe import Recipe

    shared = {field.name for field in fields(finetune.Config)} & set(vars(config)) - {"json"}
    common = finetune.Config(**{name: vars(config)[name] for name in shared})
    blomix = replace(common, set=(f"folds={config.folds}",))
    recipe = finetune.method_of(blomix)
    assert isinstance(recipe, Recipe)
    searched = recipe.search_epochs * max(recipe.folds - 1, 1 - recipe.holdout)
    return {
        "probe": replace(common, method="probe", epochs=None, learning_rate=None, head_init=None),
        "plain": replace(common, method="plain", epochs=config.epochs + searched),
        "blomix": blomix,
    }


def line(flags: finetune.Config) -> str:
    """The command line that gives these flags."""
    words = ["blomix", "finetune"]
    for field in fields(flags):
        value = getattr(flags, field.name)
        if value != field.default:
            for item in value if isinstance(value, tuple) else (value,):
                words += [f"--{field.name.replace('_', '-')}", str(item)]
    return shlex.join(words)


def seconds_of(budget: str) -> float:
    """Seconds of a time such as 90s, 20m or 2h."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", budget)
    if match is None or float(match[1]) == 0:
        raise InputError(f"--budget: expected a time such as 90s, 20m or 2h, found {budget!r}")
    return float(match[1]) * _UNITS[match[2]]
