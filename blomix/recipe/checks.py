"""Checks of hyperparameters: one message that names the field, what it may be and what it is."""

import math
from typing import Any

import numpy as np

from blomix.errors import InputError


def _fail(owner: Any, field: str, expected: str):
    found = getattr(owner, field)
    raise InputError(f"{type(owner).__name__}.{field}: expected {expected}, found {found!r}")


def positive(owner: Any, *fields: str) -> None:
    for field in fields:
        if not _number(owner, field) > 0:
            _fail(owner, field, "a number above 0")


def _number(owner: Any, field: str) -> Any:
    value = getattr(owner, field)
    if not isinstance(value, int | float | np.number):
        _fail(owner, field, "a number")
    return value


def whole(owner: Any, *fields: str, least: int = 1) -> None:
    for field in fields:
        value = getattr(owner, field)
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            _fail(owner, field, f"a whole number of at least {least}")


def finite(owner: Any, *fields: str) -> None:
    for field in fields:
        if not math.isfinite(_number(owner, field)):
            _fail(owner, field, "a finite number")


def at_least(owner: Any, least: float, *fields: str) -> None:
    for field in fields:
        if not _number(owner, field) >= least:
            _fail(owner, field, f"a number of at least {least}")


def within(owner: Any, low: float, high: float, *fields: str) -> None:
    for field in fields:
        if not low <= _number(owner, field) <= high:
            _fail(owner, field, f"a number from {low} to {high}")


def one_of(owner: Any, field: str, *choices: str) -> None:
    if getattr(owner, field) not in choices:
        _fail(owner, field, f"one of {', '.join(choices)}")
