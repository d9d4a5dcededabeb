"""SIGTERM and Ctrl-C ask a run to save and leave; asked twice, it leaves at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}  # 128 + the signal's number


class Interrupted(SystemExit):
    """Raised after the state has been saved; uncaught, the process exits with `code`."""

    def __init__(self, code: int):
        super().__init__(code)
        self.exit_code = code

    def __str__(self) -> str:
        return "stopped and saved; the same command continues from here"


class Signals:
    """Listens from its creation to `close()`; outside of the main thread it hears nothing."""

    def __init__(self):
        self.code: int | None = None
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._previous[number] = signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        if self.code is not None:
            os._exit(code)  # saves are atomic: leaving in the middle of one loses only that one
        self.code = code
        # Not print: the signal may have come in the middle of another one, which forbids a second.
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping: saving first (once more: stop at once)\n")

    def close(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does; outside of the main thread it does not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
