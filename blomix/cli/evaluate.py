"""Score a finished run on labelled data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Config:
    """Flags of `blomix evaluate`."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory that `blomix finetune` finished."""
    data: Path
    """File of labelled examples, or a folder of a task (its validation file)."""
    text: str | None = None
    """Column of the text; if left out the one trained on, or found by its name."""
    text_pair: str | None = None
    """Column of the second text of a pair."""
    label: str | None = None
    """Column of the label; if left out the one trained on, or found by its name."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from blomix.cli.columns import columns_of
    from blomix.data import load, reading
    from blomix.recipe import Result
    from blomix.recipe.progress import Progress
    from blomix.report.reading import read_splits

    progress = Progress(quiet=config.json)
    result = Result.load(config.run)
    examples = load(
        config.data,
        **columns_of(result.summary, config.text, config.text_pair, config.label),
        label_names=result.label_names,
        regression=result.model.regression,
        split="validation",
    )
    progress.note(reading(examples))
    splits = read_splits(config.run)
    trained = {*splits["train"], *splits.get("held", ())}  # trained on, or stopped on
    seen = sum(digest in trained for digest in examples.digests)
    if seen:
        progress.note(
            f"{examples.name}: {seen} of {len(examples)} examples were trained on: the score says "
            "less about new texts"
        )
    scores = result.evaluate(examples, progress)
    return {
        "metric": result.summary["metric"],
        "score": scores.pop("score"),
        "metrics": scores,
        "examples": len(examples),
        "trained_on": seen,
        "run": str(config.run),
    }


def text(result: dict[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.4f}" for name, value in result["metrics"].items())
    return f"{scores} on {result['examples']} examples"
