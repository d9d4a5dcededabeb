"""Data by file or by name -> Examples."""

import math
from collections.abc import Sequence
from pathlib import Path

from blomix.data.columns import check_column, find_columns
from blomix.data.examples import Examples
from blomix.data.labels import decide_labels
from blomix.data.messages import show
from blomix.data.sources import open_source
from blomix.data.table import MAX_CELL
from blomix.errors import InputError


def load(
    source: str | Path,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    label_names: Sequence[str] | None = None,
    regression: bool | None = None,
    split: str = "train",
    labelled: bool = True,
) -> Examples:
    """Read one split.

    source: a file (.csv, .tsv, .jsonl, .ndjson, .json as JSON lines, .parquet; UTF-8, one header
        line, RFC 4180 quoting); a folder with a file a split; a GLUE task's name; or a hub data
        set, `owner/name` or `name:config`. An existing path wins over a name. A folder called
        like a GLUE task, and every file in it, has that task's classes and metric.
    text, text_pair, label: columns; where not told, the one with a well-known name.
    label_names: the classes in their order; for a validation or test split give training's.
    regression: True or False to say so; None to let the labels decide (`blomix.data.labels`).
    split: which file of a folder, or which split of a named data set; a plain file ignores it.
    labelled: False reads texts only, and a label column is neither needed nor looked at.

    Raises InputError, one line that names file, row and column.
    """
    table, task, name = open_source(source, split)
    columns = find_columns(
        table.columns, table.where, text=text, text_pair=text_pair, label=label, labelled=labelled
    )
    data = table.read(columns.used)
    texts = _texts(data[columns.text], table.where, columns.text)
    pairs = columns.pair and _texts(data[columns.pair], table.where, columns.pair)
    if task is not None and regression is None and label_names is None:
        regression = task.label_names is None
    labels, names = None, None if label_names is None else tuple(label_names)
    if columns.label is not None:
        labels, names = decide_labels(
            data[columns.label],
            table.where,
            label_names=label_names,
            regression=regression,
            task_names=(task and task.label_names) or table.class_names.get(columns.label),
        )
    is_regression = names is None and (labels is not None or bool(regression))
    metric = "spearman" if is_regression else "accuracy"
    if task is not None and is_regression == (task.label_names is None):
        metric = task.metric
    return Examples(texts, pairs or None, labels, names, name, metric, table.where, columns)


def read_columns(source: str | Path, names: Sequence[str], split: str = "train") -> dict[str, list]:
    """Other columns of what `load` reads, such as an id: row for row, NaN and infinity as None.

    Raises InputError for a column that is not there, or there twice, or has lists in it.
    """
    if not names:
        return {}
    table, _, _ = open_source(source, split)
    for name in names:
        check_column(name, table.columns, table.where, "--keep")
    data = table.read(list(dict.fromkeys(names)))
    return {name: _scalars(values, table.where, name) for name, values in data.items()}


def _scalars(values: Sequence[object], where: str, column: str) -> list:
    for row, value in enumerate(values, 1):
        if isinstance(value, str):
            _check_text(value, where, row, column)
        elif not isinstance(value, int | float | None):
            raise InputError(
                f"{where}, row {row}, column {show(column)}: expected a string or a number, found "
                f"{type(value).__name__} {show(value)}"
            )
    return [
        None if isinstance(value, float) and not math.isfinite(value) else value for value in values
    ]


def _texts(values: Sequence[object], where: str, column: str) -> tuple[str, ...]:
    for row, value in enumerate(values, 1):
        if not isinstance(value, str):
            found = "null" if value is None else f"{type(value).__name__} {show(value)}"
            raise InputError(f"{where}, row {row}, column {show(column)}: no text, but {found}")
        _check_text(value, where, row, column)
    if not values:
        raise InputError(f"{where}: no rows below the header")
    if not any(str(value).strip() for value in values):
        raise InputError(f"{where}, column {show(column)}: all {len(values)} texts are empty")
    return tuple(str(value) for value in values)


def _check_text(value: str, where: str, row: int, column: str) -> None:
    if len(value) > MAX_CELL:
        raise InputError(
            f"{where}, row {row}, column {show(column)}: {len(value)} characters, "
            f"at most {MAX_CELL} are read"
        )
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InputError(
            f"{where}, row {row}, column {show(column)}: half of a surrogate pair, "
            f"which no UTF-8 text can hold"
        )
