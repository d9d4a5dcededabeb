"""What a user should hear of labelled data before a model is trained on it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from blomix.data.batches import cut_rows
from blomix.data.examples import Examples
from blomix.data.labels import number_of, number_or_name, twins
from blomix.data.messages import show, show_all

_FEW_CLASSES = 8
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_SCALE = 5  # more whole numbers than this, such as ages, are seldom names


def reading(examples: Examples) -> str:
    """Which columns were taken for what, and any labels with their rows, on one line."""
    columns = examples.columns
    found = [f"{examples.name}: {len(examples)} examples"]
    if columns is not None:
        texts = " and ".join(show(name) for name in (columns.text, columns.pair) if name)
        label = f", label in {show(columns.label)}" if columns.label else ""
        found.append(f"text in {texts}{label}")
    return "; ".join(found if examples.labels is None else [*found, _labels(examples)])


def remarks(train: Examples, repeats: Mapping[str, int]) -> Iterator[str]:
    """What may be a mistake in the training data, a line each; nothing where all is well.

    repeats: what `duplicates` finds there.
    """
    yield from empty_remarks(train, "training")
    if repeats["conflicting_texts"]:
        yield (
            f"{train.name}: {repeats['conflicting_texts']} training texts are there with more than "
            "one label"
        )
    names = train.label_names or ()
    for twin, name in twins(names, str.casefold):
        yield f"{train.name}: the labels {show(twin)} and {show(name)} are two classes"
    for twin, name in twins(names, number_or_name):
        yield (
            f"{train.name}: the labels {show(twin)} and {show(name)} are one number and two classes"
        )
    if len(names) > _SCALE and all(number_of(name) is not None for name in names):
        yield (
            f"{train.name}: {len(names)} numbers are classes here; for values give --label-kind "
            "values"
        )
    if all(_COMMA.fullmatch(name) for name in names) and names:
        yield (
            f"{train.name}: numbers with a comma ({show_all(names, 3)}) are taken for classes; if "
            "they are values, write them with a point"
        )


def empty_remarks(examples: Examples, kind: str) -> Iterator[str]:
    """How many texts, and second texts of pairs, are empty; `kind` is what they are for."""
    for which, texts in (("", examples.texts), ("second ", examples.pairs or ())):
        if empty := sum(not text.strip() for text in texts):
            yield f"{examples.name}: {empty} of {len(examples)} {which}{kind} texts are empty"


def cut_remarks(
    train: Examples, tokenizer: Any, arrays: dict[str, np.ndarray], max_length: int
) -> Iterator[str]:
    """How many texts `encode` cut to make `arrays`."""
    if cut := cut_rows(train, tokenizer, arrays, max_length):
        yield (
            f"{train.name}: {cut} of {len(train)} training texts are longer than {max_length} "
            "tokens and are cut; --max-length sets it"
        )


def leak_remarks(scored: Examples, leaked: Mapping[str, int]) -> Iterator[str]:
    """What `leakage` found of the scored examples among those trained on."""
    if leaked["rows"]:
        yield (
            f"{scored.name}: {leaked['rows']} of {len(scored)} scored examples have a text that is "
            f"trained on too ({leaked['conflicting']} with another label): the score says less "
            "about new texts"
        )


def _labels(examples: Examples) -> str:
    labels = examples.targets
    if examples.label_names is None:
        return f"values from {labels.min():g} to {labels.max():g}"
    counts = np.bincount(labels, minlength=examples.num_labels)
    if examples.num_labels > _FEW_CLASSES:
        return (
            f"{examples.num_labels} classes of {counts.min()} to {counts.max()} examples "
            f"({show_all(examples.label_names, 3)})"
        )
    pairs = zip(examples.label_names, counts, strict=True)
    return ", ".join(f"{show(name)} {count}" for name, count in pairs)
