"""A small trial on your own file before the roll-out: is finetuning worth it, on how many labels?

Trains a regression on the frozen encoder, plain finetuning and blomix on repeated stratified
splits within a time budget, fits a learning curve, and decides: go, collect more labels, or use
the simpler model. Plain finetuning gets as many passes over the labels as blomix makes one after
the other.
"""

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from blomix.cli.labels import REGRESSION, LabelKind
from blomix.errors import InputError

_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Config:
    """Flags of `blomix pilot`."""

    model: str
    """Directory or hub id of a pretrained encoder."""
    train: Path
    """File of all the labelled examples there are."""
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
    folds: int = 5
    """Folds of blomix's search."""
    epochs: float = 3.0
    """Passes over the labels in blomix's search and in its finetuning, each."""
    learning_rate: float = 1e-4
    """Peak learning rate of the task weights."""
    head_init: Literal["random", "probe"] = "random"
    """Start of the classifier: drawn from the seed, or the regression on frozen features."""
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
    import sys

    from blomix.data import load
    from blomix.encoders import Encoder
    from blomix.pilot.decision import decide
    from blomix.pilot.page import write_page
    from blomix.pilot.trial import run_trial
    from blomix.runs.files import plain, storage

    budget = seconds_of(config.budget)
    if config.target is not None and not math.isfinite(config.target):
        raise InputError(f"--target: expected a finite score, found {config.target}")
    with storage(config.out, "write to"):  # told before the budget is spent, not after
        (config.out / "figures").mkdir(parents=True, exist_ok=True)
    examples = load(
        config.train,
        text=config.text,
        text_pair=config.text_pair,
        label=config.label,
        regression=REGRESSION[config.label_kind],
    )
    encoder = Encoder.from_pretrained(
        config.model,
        **examples.head,
        pooling=config.pooling,
        seed=config.seed,
    )
    cells = run_trial(
        encoder,
        examples,
        methods_of(config),
        budget,
        seed=config.seed,
        max_length=config.max_length,
        splits=config.splits,
        note=lambda line: None if config.json else print(line, file=sys.stderr, flush=True),
    )
    decision = decide(cells, config.target)
    result = {
        "decision": decision.kind,
        "method": decision.method,
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
    return "\n".join([f"{result['headline']}.", *result["reasons"], f"page: {result['page']}"])


def methods_of(config: Config) -> dict[str, Any]:
    """The three methods on equal terms."""
    from blomix.baselines.probe import Probe
    from blomix.recipe import Recipe, Training

    plain = Training(
        epochs=2 * config.epochs, learning_rate=config.learning_rate, head_init=config.head_init
    )
    blomix = Recipe(
        folds=config.folds,
        epochs=config.epochs,
        search_epochs=config.epochs,
        learning_rate=config.learning_rate,
        search_learning_rate=config.learning_rate,
        head_init=config.head_init,
    )
    return {"probe": Probe(), "plain": plain, "blomix": blomix}


def seconds_of(budget: str) -> float:
    """Seconds of a time such as 90s, 20m or 2h."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", budget)
    if match is None or float(match[1]) == 0:
        raise InputError(f"--budget: expected a time such as 90s, 20m or 2h, found {budget!r}")
    return float(match[1]) * _UNITS[match[2]]
