"""Labelled texts as one frozen value."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from blomix.data.columns import Columns
from blomix.errors import InputError


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts, or pairs of texts, with their labels.

    labels: class indices (int64) where `label_names` is given, else targets of a regression
    (float64), or None for unlabelled text. `metric` names the task's own figure of merit and
    `source` where the rows came from (a path, or a hub id with its resolved commit); `columns` is
    which of theirs were read.
    """

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None
    labels: np.ndarray | None = None
    label_names: tuple[str, ...] | None = None
    name: str = "texts"
    metric: str = "accuracy"
    source: str = ""
    columns: Columns | None = None

    def __post_init__(self):
        for what in ("pairs", "labels"):
            column = getattr(self, what)
            if column is not None and len(column) != len(self.texts):
                raise InputError(f"{self.name}: {len(self.texts)} texts but {len(column)} {what}")

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def is_regression(self) -> bool:
        return self.labels is not None and self.label_names is None

    @property
    def num_labels(self) -> int:
        """Width of the output layer: one a class, or 1 for a regression."""
        return 1 if self.label_names is None else len(self.label_names)

    @property
    def kind(self) -> dict[str, Any]:
        """What `load` is told so that another file's labels are read as these were."""
        return {"label_names": self.label_names, "regression": self.is_regression}

    @property
    def head(self) -> dict[str, Any]:
        """What `Encoder.from_pretrained` is told of the head that these labels need."""
        return {"num_labels": self.num_labels} | self.kind

    @property
    def targets(self) -> np.ndarray:
        """The labels, of examples that must have them; raises InputError where there are none."""
        if self.labels is None:
            raise InputError(f"{self.name}: expected labelled examples, found texts alone")
        return self.labels

    def like(self, label_names: tuple[str, ...] | None, regression: bool) -> "Examples":
        """These examples with their classes numbered as `label_names` are.

        Raises:
          InputError: classes where values are expected or the reverse, or a class of another name.
        """
        if self.labels is None:
            return self
        if self.is_regression != regression:
            kinds = "classes", "values"
            raise InputError(
                f"{self.name}: expected labels that are {kinds[regression]}, found "
                f"{kinds[self.is_regression]}"
            )
        if self.label_names is None or label_names is None or self.label_names == label_names:
            return self
        if unknown := [name for name in self.label_names if name not in label_names]:
            raise InputError(
                f"{self.name}: expected the classes {', '.join(label_names)}, found "
                f"{', '.join(unknown)}"
            )
        number = np.array([label_names.index(name) for name in self.label_names], np.int64)
        return replace(self, labels=number[self.labels], label_names=label_names)

    def check_paired(self, paired: bool, those: str) -> None:
        """Raises InputError unless these are pairs where `those` are, single texts where not."""
        if (self.pairs is not None) == paired:
            return
        kinds = "single texts", "pairs of texts"
        remedy = (
            "name both columns (--text and --text-pair)" if paired else "name one column (--text)"
        )
        raise InputError(
            f"{self.name}: expected {kinds[paired]}, as {those} are, found {kinds[not paired]}; "
            f"{remedy}"
        )

    def label(self, row: int) -> str | float | None:
        """A row's label as a person reads it: the class's name, or the number."""
        if self.labels is None:
            return None
        if self.label_names is None:
            return float(self.labels[row])
        return self.label_names[self.labels[row]]

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """One digest a row, over its text, pair and label: it names the row in splits.json."""
        pairs = self.pairs or (None,) * len(self)
        return tuple(
            _digest(text, pair, self.label(row))
            for row, (text, pair) in enumerate(zip(self.texts, pairs, strict=True))
        )

    @cached_property
    def text_digests(self) -> tuple[str, ...]:
        """As `digests`, without the label: equal where the model sees the same input."""
        pairs = self.pairs or (None,) * len(self)
        return tuple(_digest(*both) for both in zip(self.texts, pairs, strict=True))

    def select(self, rows: Iterable[int]) -> "Examples":
        """The rows with these indices, in this order."""
        rows = np.asarray(list(rows), np.int64)
        return replace(
            self,
            texts=tuple(self.texts[row] for row in rows),
            pairs=None if self.pairs is None else tuple(self.pairs[row] for row in rows),
            labels=None if self.labels is None else self.labels[rows],
        )


def digest_of(digests: Iterable[str]) -> str:
    """One digest of rows in their order, from theirs: equal where texts and labels are."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def leakage(train: Examples, other: Examples) -> dict[str, int]:
    """How much of `other` was seen in training, by exact text (and pair).

    rows: rows of `other` whose text is in `train`; texts: distinct such texts;
    conflicting: those rows of which no copy in `train` has the same label.
    """
    seen, labelled = set(train.text_digests), set(train.digests)
    shared = [row for row, digest in enumerate(other.text_digests) if digest in seen]
    return {
        "rows": len(shared),
        "texts": len({other.text_digests[row] for row in shared}),
        "conflicting": sum(other.digests[row] not in labelled for row in shared),
    }


def duplicates(examples: Examples) -> dict[str, int]:
    """Repeats within one split: rows beyond each text's first, and texts with several labels."""
    distinct = set(zip(examples.text_digests, examples.digests, strict=True))
    labels_of = Counter(text for text, _ in distinct)
    return {
        "rows": len(examples) - len(labels_of),
        "conflicting_texts": sum(count > 1 for count in labels_of.values()),
    }


def _digest(*values: str | float | None) -> str:
    # JSON is unambiguous where plain joining is not: ("a", "b c") differs from ("a b", "c").
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
