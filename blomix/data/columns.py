"""Which columns hold the text, its pair and the label: as told, or by well-known names."""

from collections.abc import Sequence
from dataclasses import dataclass

from blomix.data.messages import near, show, show_all
from blomix.errors import InputError

PAIRS = (
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("sentence1", "sentence2"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("#1 string", "#2 string"),
)
TEXTS = ("sentence", "text", "review", "tweet")
LABELS = (
    "label",
    "labels",
    "gold_label",
    "class",
    "target",
    "score",
    "similarity_score",
    "quality",
    "is_duplicate",
)


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; None where there is none."""

    text: str
    pair: str | None
    label: str | None

    @property
    def used(self) -> list[str]:
        return [name for name in (self.text, self.pair, self.label) if name is not None]


def find_columns(
    columns: Sequence[str],
    where: str,
    *,
    text: str | None,
    text_pair: str | None,
    label: str | None,
    labelled: bool,
) -> Columns:
    """What was told, and for the rest the one well-known name (any case) that is there.

    Two candidates, or none, is an InputError that lists the columns and names the flag.
    """
    if text_pair is not None and text is None:
        raise InputError(
            f"{where}: --text-pair {show(text_pair)} needs --text, the first text's column"
        )
    _refuse_other_separator(columns, where, text)
    if text is None:
        text, text_pair = _find_text(columns, where)
    if labelled and label is None:
        label = _find_label([name for name in columns if name not in (text, text_pair)], where)
    found = Columns(text, text_pair, label if labelled else None)
    for name in found.used:
        flag = {text: "--text", text_pair: "--text-pair"}.get(name, "--label")
        check_column(name, columns, where, flag)
        if found.used.count(name) > 1:
            raise InputError(f"{where}: the column {show(name)} is asked for twice")
    return found


def check_column(name: str, columns: Sequence[str], where: str, flag: str) -> None:
    """Raises InputError unless exactly one of `columns` has this name; `flag` is what named it."""
    if name not in columns:
        raise InputError(
            f"{where}: no column {show(name)}{near(name, columns)}; it has "
            f"{show_all(columns)}; say which with {flag}"
        )
    if columns.count(name) > 1:
        raise InputError(f"{where}: the column {show(name)} is there twice; rename one")


def _refuse_other_separator(columns: Sequence[str], where: str, text: str | None) -> None:
    """A lone column whose name is several: the separator is another."""
    if len(columns) != 1 or columns[0] == text:
        return
    for separator in ",;\t|":
        if separator in columns[0]:
            raise InputError(
                f"{where}: one column, {show(columns[0])}, whose name has {show(separator)} in it; "
                "the cells of a .csv file are separated by commas, those of a .tsv file by tabs"
            )


def _find_text(columns: Sequence[str], where: str) -> tuple[str, str | None]:
    pairs = [
        (first, second)
        for one, two in PAIRS
        for first in _named(one, columns)
        for second in _named(two, columns)
    ]
    paired = {name for pair in pairs for name in pair}
    singles = [(name, None) for known in TEXTS for name in _named(known, columns)]
    found = pairs + [single for single in singles if single[0] not in paired]
    for name in {name for both in found for name in both if name is not None}:
        check_column(name, columns, where, "--text")
    if len(found) != 1:
        raise InputError(
            f"{where}: {'several columns' if found else 'no column'} with a text column's name; "
            f"it has {show_all(columns)}; say which with --text (and --text-pair)"
        )
    return found[0]


def _find_label(columns: Sequence[str], where: str) -> str:
    found = [name for known in LABELS for name in _named(known, columns)]
    for name in found:
        check_column(name, columns, where, "--label")
    if len(found) != 1:
        raise InputError(
            f"{where}: {'several columns' if found else 'no column'} with a label column's name; "
            f"beside the text it has {show_all(columns)}; say which with --label"
        )
    return found[0]


def _named(known: str, columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name.strip().casefold() == known]
