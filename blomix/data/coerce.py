"""Plain Python texts and labels -> Examples."""

from collections.abc import Mapping, Sequence, Sized

import numpy as np

from blomix.data.examples import Examples
from blomix.data.labels import decide_labels
from blomix.errors import InputError


def examples_of(
    data: Examples | tuple[Sequence, Sequence | None],
    like: Examples | None = None,
    regression: bool | None = None,
) -> Examples:
    """`data` as examples.

    Args:
      data: examples, or `(texts, labels)`: texts are strings or pairs of strings; labels are
        strings or numbers, of which one with a fractional part makes all of them values
        (`blomix.data.labels`), or None.
      like: training examples, whose classes the labels must be of, and as whose they are numbered.
      regression: whether the labels are values; None: as `like`, or as they tell.

    Raises:
      InputError: not two columns, texts that are not strings, labels of another length, a label
        that `like` lacks.
    """
    if isinstance(data, Examples):
        return data if like is None else data.like(like.label_names, like.is_regression)
    if not isinstance(data, tuple) or len(data) != 2:
        raise InputError(
            "expected (texts, labels), such as (frame['text'], frame['label']), or Examples, as "
            f"blomix.data.load gives them; found {_kind(data)}"
        )
    texts, labels = data
    for name, column in (("texts", texts), ("labels", labels)):
        if isinstance(column, str | bytes | Mapping) or getattr(column, "ndim", 1) != 1:
            raise InputError(f"{name}: expected one column, such as a list, found {_kind(column)}")
    rows: list[tuple[str, ...]] = [
        tuple(text) if isinstance(text, list | tuple) else (text,) for text in texts
    ]
    widths = {len(row) for row in rows}
    if widths not in ({1}, {2}) or not all(isinstance(part, str) for row in rows for part in row):
        raise InputError("texts: expected strings, or pairs of strings, all of one kind")
    first = tuple(row[0] for row in rows)
    pairs = tuple(row[1] for row in rows) if widths == {2} else None
    if labels is None:
        return Examples(first, pairs)
    names = None if like is None else like.label_names
    regression = regression if like is None else like.is_regression
    values = [value.item() if isinstance(value, np.generic) else value for value in labels]
    indices, names = decide_labels(values, "labels", label_names=names, regression=regression)
    return Examples(first, pairs, indices, names, metric="accuracy" if names else "spearman")


def _kind(value: object) -> str:
    """A value's type, and its length if it has one: its text may be anything, and long."""
    length = f" of length {len(value)}" if isinstance(value, Sized) else ""
    return f"a {type(value).__name__}{length}"
