"""Checks of hyperparameters: one message that names the field, what it may be and what it is."""

import math
from typing import Any

from blomix.errors import InputError


def _fail(owner: Any, field: str, expected: str):
    found = getattr(owner, field)
    raise InputError(f"{type(owner).__name__}.{field}: expected {expected}, found {found!r}")


def positive(owner: Any, *fields: str) -> None:
    for field in fields:
        if not getattr(owner, field) > 0:
            _fail(owner, field, "a number above 0")


def finite(owner: Any, *fields: str) -> None:
    for field in fields:
        if not math.isfinite(getattr(owner, field)):
            _fail(owner, field, "a finite number")


def at_least(owner: Any, least: float, *fields: str) -> None:
    for field in fields:
        if not getattr(owner, field) >= least:
            _fail(owner, field, f"a number of at least {least}")


def within(owner: Any, low: float, high: float, *fields: str) -> None:
    for field in fields:
        if not low <= getattr(owner, field) <= high:
            _fail(owner, field, f"a number from {low} to {high}")


def one_of(owner: Any, field: str, *choices: str) -> None:
    if getattr(owner, field) not in choices:
        _fail(owner, field, f"one of {', '.join(choices)}")
