"""The run directory as every process but the first has it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blomix.runs import arrays, files, finite
from blomix.runs.checkpoints import SAVE
from blomix.runs.processes import agreed, asked_by_any, told
from blomix.runs.signals import Interrupted, Signals

PyTree = Any


class Follower:
    """Writes and reads this process's parts of the checkpoints; all else is the first one's `Run`.

    Every method meets the one of `Run` that bears its name: all processes call them in one order.
    """

    def __init__(self, path: Path):
        self.path = path
        self._signals = Signals()
        self._done: set[str] = set()
        self._written: Callable[[], object] | None = None

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def stopping(self) -> bool:
        return self._signals.code is not None

    @property
    def due(self) -> bool:
        return False

    def finished(self, phase: str) -> bool:
        return phase in self._done

    def log(self, record: Mapping[str, Any]) -> None:
        pass

    def save(self, phase: str, step: int, state: PyTree, *, final: bool = False) -> None:
        self.wait()
        finite.check(step, {}, state)
        directory: str | None = told(agreed(lambda: None))
        if directory is not None:
            with files.storage(Path(directory), SAVE):
                self._written = arrays.save(Path(directory), state)
        if final:
            self._done.add(phase)

    def restore(
        self, phase: str, like: PyTree, like_final: PyTree = None
    ) -> tuple[int, PyTree] | None:
        self.wait()
        found: Any = told(agreed(lambda: None))
        if found is None:
            return None
        path, final, facts = found
        if final:
            self._done.add(phase)
        wanted = like_final if final and like_final is not None else like
        return facts["step"], arrays.load(Path(path), wanted, facts["leaves"])

    def stop_if_asked(self, phase: str, step: int, state: PyTree) -> None:
        code = asked_by_any(self._signals.code)
        if code is not None:
            self.save(phase, step, state)
            self.wait()
            raise Interrupted(code)

    def write_json(self, name: str, value: Any) -> None:
        pass

    def wait(self) -> None:
        agreed(self._wait_here)

    def close(self) -> None:
        try:
            self._wait_here()
        finally:
            self._signals.close()

    def _wait_here(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            with files.storage(self.path, SAVE):
                written()
