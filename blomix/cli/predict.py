"""Label a file with a finished run."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from blomix.errors import InputError


@dataclass(frozen=True)
class Config:
    """Flags of `blomix predict`."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory that `blomix finetune` finished."""
    data: Path
    """File of texts; labels are not needed."""
    output: Path
    """File to write: .csv, .tsv or .jsonl. An existing one is not touched. In .csv and .tsv a text
    or a label that a spreadsheet would take for a formula (it starts with =, +, - or @) gets a '
    before it; .jsonl has all as it is."""
    text: str | None = None
    """Column of the text; if left out the one trained on, or found by its name."""
    text_pair: str | None = None
    """Column of the second text of a pair."""
    keep: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Another column of the file, such as an id, to write before the text; may be repeated."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from blomix.cli.columns import columns_of
    from blomix.data import check_output, load, read_columns, reading, write_columns
    from blomix.recipe import Result
    from blomix.recipe.progress import Progress

    check_output(config.output)
    result = Result.load(config.run)
    progress = Progress(quiet=config.json)
    columns = columns_of(result.summary, config.text, config.text_pair)
    examples = load(config.data, **columns, labelled=False)
    progress.note(reading(examples))
    kept = read_columns(config.data, config.keep)
    check_kept(kept, result)
    logits = result.logits(examples, progress)
    write_columns(config.output, kept | table(examples, result, logits))
    return {"output": str(config.output), "examples": len(examples)}


def check_kept(kept: Iterable[str], result) -> None:
    """Raises InputError at a column of the file that is named as one of the predictions'."""
    taken = {"text", "text_pair", "prediction", *map(share, result.label_names or ())}
    if clash := sorted(taken.intersection(kept)):
        raise InputError(
            f"--keep {clash[0]}: expected a column that the output does not have anyway, "
            f"found one of its own ({', '.join(sorted(taken))}); rename it in the file"
        )


def share(label: str) -> str:
    """Name of the column of a class's probabilities."""
    return f"p({label})"


def table(examples, result, logits) -> dict[str, list]:
    """Text, prediction and, for classes, the probability of each."""
    columns = {"text": list(examples.texts)}
    if examples.pairs is not None:
        columns["text_pair"] = list(examples.pairs)
    columns["prediction"] = result.decide(logits)
    if result.label_names is not None:
        from scipy.special import softmax

        shares = softmax(logits, axis=1)
        columns |= {share(name): shares[:, i].tolist() for i, name in enumerate(result.label_names)}
    return columns


def text(result: dict[str, Any]) -> str:
    return f"{result['examples']} predictions: {result['output']}"
