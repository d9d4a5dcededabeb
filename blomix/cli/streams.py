"""Standard output and error that may be gone: a lost reader must not stop a run."""

import os
import sys
from io import TextIOWrapper
from typing import Any, TextIO, cast

from blomix.errors import InputError


class Forgiving:
    """A stream of which a reader that has left (`| head -1`) costs nothing.

    Any other refusal, such as a full disk, is an InputError where `strict`, else passed over too.
    """

    def __init__(self, stream: TextIO | None, strict: bool):
        self._stream = open(os.devnull, "w") if stream is None else stream  # noqa: SIM115
        self._strict = strict

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        # What is still buffered would fail again when the interpreter ends.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
        if self._strict and not isinstance(error, BrokenPipeError):
            raise InputError(f"the output cannot be written: {error.strerror}") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def forgive() -> None:
    """Wrap this process's standard output and error; none of the three numbers stays free.

    A file that took the number of a closed stream would get what native code prints there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a path may hold what no encoding has
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = cast(TextIO, Forgiving(sys.stdout, strict=True))
    sys.stderr = cast(TextIO, Forgiving(sys.stderr, strict=False))
