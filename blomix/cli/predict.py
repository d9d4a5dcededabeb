"""Label a file with a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Config:
    """Flags of `blomix predict`."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory that `blomix finetune` finished."""
    data: Path
    """File of texts; labels are not needed."""
    output: Path
    """File to write: .csv, .tsv or .jsonl. An existing one is not touched."""
    text: str | None = None
    """Column of the text; found by its name if left out."""
    text_pair: str | None = None
    """Column of the second text of a pair."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from blomix.data import load, write_predictions
    from blomix.recipe import Result

    result = Result.load(config.run)
    examples = load(config.data, text=config.text, text_pair=config.text_pair, labelled=False)
    logits = result.logits(examples)
    write_predictions(config.output, examples, result.decide(logits), logits, result.label_names)
    return {"output": str(config.output), "examples": len(examples)}


def text(result: dict[str, Any]) -> str:
    return f"{result['examples']} predictions: {result['output']}"
