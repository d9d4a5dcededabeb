"""Label cells -> class indices or regression targets, by a rule that is written down.

1. `regression=True`: every label must be a finite number. `regression=False`, or class names given:
   classes.
2. Not told: if any label is a number with a fractional part, it is a regression and every label
   must be a finite number; otherwise classes. So 0/1 and 1..5 are classes, 2.5 makes a regression.
3. A class is named by its label as written (white space around it dropped), so "1" and "1.0" are
   two classes. Classes are sorted naturally (2 before 10) unless names are given.
   Two classes that look the same (but for zero-width characters, say) are an error.
4. A missing label (an empty cell, null, a NaN that is no text) is an error, and so is a label that
   is not among the given class names.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from blomix.data.messages import show, show_all
from blomix.errors import InputError

MAX_CLASSES = 1000
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


def decide_labels(
    values: Sequence[object],
    where: str,
    *,
    label_names: Sequence[str] | None = None,
    regression: bool | None = None,
    task_names: Sequence[str] | None = None,
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """(indices, class names) or (targets, None); the rule is the module's docstring.

    task_names: a known task's classes, which files also write as their index.
    """
    cells = [_cell(value, where, row) for row, value in enumerate(values, 1)]
    numbers = [number_of(cell) for cell in cells]
    if regression and label_names is not None:
        raise InputError(f"{where}: class names were given for a regression; give one of the two")
    if label_names is not None and not 0 < len(set(label_names)) == len(label_names):
        raise InputError(f"{where}: expected class names, each once, found {show_all(label_names)}")
    told = regression is not None or label_names is not None or task_names is not None
    if not told:
        first = next((row for row, x in enumerate(numbers) if x is not None and x % 1), None)
        regression = first is not None
        _refuse_half_numbers(cells, numbers, first, where)
    if regression:
        return _targets(cells, numbers, where), None
    names = tuple(label_names or task_names or _classes(cells, where))
    owner = "training's classes" if label_names else "the classes of the task in the folder's name,"
    return _indices(cells, names, task_names or (), f"{owner} {show_all(names)}", where), names


def _cell(value: object, where: str, row: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    missing = value is None or (isinstance(value, str) and not value.strip())
    if missing or (isinstance(value, float) and math.isnan(value)):  # as pandas has it
        raise InputError(f"{where}, row {row}: the label is missing")
    if not isinstance(value, str | int | float):
        raise InputError(
            f"{where}, row {row}: expected a string or a number as label, "
            f"found {type(value).__name__} {show(value)}"
        )
    cell = str(value).strip()
    if not cell.isascii() and any("\ud800" <= char <= "\udfff" for char in cell):
        raise InputError(f"{where}, row {row}: the label {show(cell)} is not valid Unicode")
    return cell


def number_or_name(name: str) -> str:
    """The same for names of one number, such as 1 and 1.0."""
    number = number_of(name)
    return name if number is None else repr(number)


def number_of(cell: str) -> float | None:
    """The finite number that a cell is, else None."""
    number = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    return number if math.isfinite(number) else None


def _refuse_half_numbers(cells, numbers, first: int | None, where: str) -> None:
    """A fractional number says regression, and only numbers say it: then all must be numbers."""
    rows = list(zip(cells, numbers, strict=True))
    numeric = all(number is not None or _NOT_FINITE.fullmatch(cell) for cell, number in rows)
    for row, (cell, number) in enumerate(rows, 1):
        if number is None and first is not None:
            raise InputError(
                f"{where}, row {row}: the label {show(cell)} is not a finite number, while row "
                f"{first + 1} has {cells[first]}, which makes this a regression"
            )
        if number is None and numeric:
            raise InputError(
                f"{where}, row {row}: the label {show(cell)} is not a finite number as the others "
                f"are; is it a missing value?"
            )


def _targets(cells, numbers, where: str) -> np.ndarray:
    for row, (cell, number) in enumerate(zip(cells, numbers, strict=True), 1):
        if number is None:
            raise InputError(
                f"{where}, row {row}: expected a finite number as label of a regression, "
                f"found {show(cell)}"
            )
    return np.asarray(numbers, np.float64)


def _classes(cells: list[str], where: str) -> list[str]:
    names = sorted(set(cells), key=_natural)
    if len(names) == 1:
        raise InputError(
            f"{where}: all {len(cells)} labels are {show(names[0])}; expected at least two classes"
        )
    for twin, name in twins(names, _visible):
        raise InputError(
            f"{where}: the labels {twin!a} and {name!a} look the same; write them in one way"
        )
    if len(names) > MAX_CLASSES:
        raise InputError(
            f"{where}: {len(names)} different labels, at most {MAX_CLASSES} classes are trained; "
            f"is this the label column ({show_all(names, 3)})?"
        )
    return names


def twins(names: Iterable[str], alike: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The names that `alike` makes equal to an earlier one, each behind the first such."""
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(alike(name), name)
        if twin != name:
            yield twin, name


def _indices(cells, names, task_names: Sequence[str], expected: str, where: str) -> np.ndarray:
    index = {name: place for place, name in enumerate(names)}
    for place, name in enumerate(task_names):
        if name in index:
            index.setdefault(str(place), index[name])
    for row, cell in enumerate(cells, 1):
        if cell not in index:
            raise InputError(
                f"{where}, row {row}: expected one of {expected}, found the label {show(cell)}"
            )
    return np.asarray([index[cell] for cell in cells], np.int64)


def _visible(name: str) -> str:
    """What a reader sees: composed characters, without control and zero-width ones."""
    shown = unicodedata.normalize("NFC", name)
    shown = "".join(char for char in shown if unicodedata.category(char) not in ("Cc", "Cf"))
    return " ".join(shown.split())


def _natural(name: str) -> tuple:
    """-1 < 0 < 2 < 10 < a2 < a10: numbers by value, and digits within a word by value too."""
    number = number_of(name)
    parts = re.split(r"([0-9]+)", name)
    # Digits compare by their number and then in order, as int would, which reads 4300 at most.
    digits = [p.lstrip("0") if i % 2 else "" for i, p in enumerate(parts)]
    words = tuple(
        (0, len(digits[i]), digits[i]) if i % 2 else (1, 0, p) for i, p in enumerate(parts) if p
    )
    return (number is None, number or 0.0, words, name)
