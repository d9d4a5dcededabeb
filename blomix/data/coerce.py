"""Plain Python texts and labels -> Examples."""

from collections.abc import Sequence

import numpy as np

from blomix.data.examples import Examples
from blomix.data.labels import decide_labels
from blomix.errors import InputError


def examples_of(
    data: Examples | tuple[Sequence, Sequence | None], like: Examples | None = None
) -> Examples:
    """`data` as examples.

    Args:
      data: examples, or `(texts, labels)`: texts are strings or pairs of strings; labels are
        strings, integers (classes) or floats (values), or None.
      like: training examples, whose classes the labels must be of, and as whose they are numbered.

    Raises:
      InputError: texts that are not strings, labels of another length, a label that `like` lacks.
    """
    if isinstance(data, Examples):
        return data if like is None else data.like(like.label_names, like.is_regression)
    texts, labels = data
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
    regression = None if like is None else like.is_regression
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    indices, names = decide_labels(values, "labels", label_names=names, regression=regression)
    return Examples(first, pairs, indices, names, metric="accuracy" if names else "spearman")
