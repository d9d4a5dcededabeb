"""Values from a user's file, made fit for a one-line message."""

import reprlib
from collections.abc import Iterable, Sequence

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def show(value: object) -> str:
    """A short repr: control, zero-width and right-to-left characters come out escaped."""
    return _short.repr(value)


def show_all(values: Iterable[object], most: int = 12) -> str:
    """The first values, and how many more there are."""
    values = list(values)
    if not values:
        return "nothing"
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(show(value) for value in values[:most]) + more


def reason(error: BaseException) -> str:
    """What a library said, on one line and not too long."""
    said = str(getattr(error, "msg", None) or error) or type(error).__name__
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in said)
    return text if len(text) <= 200 else text[:197] + "..."


def show_path(path: object) -> str:
    """A path as it is where it prints on one line, else escaped."""
    text = str(path)
    return text if text.isprintable() and len(text) < 200 else show(text)


def near(name: str, known: Sequence[str]) -> str:
    """', did you mean X?' where one known name is close, else nothing."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
