"""The checkpoints of a run: which there are, in what order they came, which are still needed.

`checkpoints/<phase>/<step>/` (`final` in place of the step at a phase's end) holds Orbax's files
and their manifest. It is written under a temporary name and renamed when whole, so what bears a
step's name was complete once; whether it still is, the manifest tells.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blomix.runs import arrays, files, manifest
from blomix.runs.metrics import Position

FINAL = "final"
SAVE = "save (the checkpoints before it are kept)"
_KEPT = 2  # of the phase at work; a finished phase needs its final one alone
_PHASE = re.compile(r"[a-z][a-z0-9_-]{0,63}(/([a-z][a-z0-9_-]{0,63}|[0-9]{1,6}))?")
_NAME = re.compile(rf"[0-9]{{8,}}|{FINAL}")


@dataclass(frozen=True)
class Checkpoint:
    """One directory of a checkpoint; its facts are those of its manifest."""

    path: Path
    phase: str

    @property
    def final(self) -> bool:
        return self.path.name == FINAL

    @property
    def order(self) -> tuple[bool, int]:
        """Sorts the checkpoints of one phase from the oldest to the newest."""
        return self.final, 0 if self.final else int(self.path.name)

    def sequence(self) -> int | None:
        """Its place among all saves of the run; None if its manifest is unreadable."""
        try:
            return int(manifest.read_facts(self.path)["sequence"])
        except (manifest.Damaged, KeyError, TypeError, ValueError):
            return None

    def verify(self) -> dict[str, Any]:
        """The facts, once all files are found as they were written; else raises Damaged."""
        facts = manifest.verify(self.path)
        try:
            written = f"{facts['phase']}/{name(int(facts['step']), facts['final'])}"
            whole = Position(**facts["metrics"]).offset >= 0 and float(facts["seconds"]) >= 0
            whole &= all(len(shape) >= 0 for _, _, shape, _ in facts["leaves"])
        except (KeyError, TypeError, ValueError):
            written, whole = "", False
        if written != f"{self.phase}/{self.path.name}" or not whole or self.sequence() is None:
            raise manifest.Damaged(f"{self.path} is damaged: its manifest is not a checkpoint's")
        return facts


def check_phase(phase: str) -> None:
    """Raise ValueError unless `phase` is a name, or two with a slash between."""
    if not _PHASE.fullmatch(phase) or FINAL in phase.split("/"):
        raise ValueError(f"phase {phase!r}: expected a name such as 'finetune' or 'search/0'")


def name(step: int, final: bool) -> str:
    return FINAL if final else f"{step:08d}"


class Store:
    """The directory `checkpoints/` of a run."""

    def __init__(self, root: Path):
        self.root = root
        root.mkdir(exist_ok=True)
        for left_behind in root.rglob(f"{files.TEMPORARY}*"):
            shutil.rmtree(left_behind, ignore_errors=True)
        last = max((checkpoint.sequence() or 0 for checkpoint in self.all()), default=0)
        self._sequence = last + 1
        self._pending: Future | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")

    def all(self) -> Iterator[Checkpoint]:
        for path in sorted(self.root.rglob("*")):
            phase = path.parent.relative_to(self.root).as_posix()
            if _NAME.fullmatch(path.name) and _PHASE.fullmatch(phase) and path.is_dir():
                yield Checkpoint(path, phase)

    def of(self, phase: str) -> list[Checkpoint]:
        """Those of one phase, newest first."""
        found = [checkpoint for checkpoint in self.all() if checkpoint.phase == phase]
        return sorted(found, key=lambda checkpoint: checkpoint.order, reverse=True)

    def at(self, phase: str, step: int, final: bool) -> Checkpoint:
        return Checkpoint(self.root / phase / name(step, final), phase)

    def room_for(self, target: Checkpoint) -> Path:
        """A new directory under a temporary name, to write `target` in."""
        name = f"{files.TEMPORARY}{target.phase.replace('/', '.')}.{target.path.name}"
        with files.storage(target.path, SAVE):
            (self.root / name).mkdir()
        return self.root / name

    def save(
        self, target: Checkpoint, temporary: Path, state: Any, facts: dict[str, Any]
    ) -> dict[str, Any]:
        """Start to write `state` as `target`, in the room made for it; returns the full facts."""
        facts = facts | {
            "phase": target.phase,
            "final": target.final,
            "sequence": self._sequence,
            "leaves": arrays.describe(state),
        }
        with files.storage(target.path, SAVE):
            try:
                written = arrays.save(temporary, state)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        self._sequence += 1
        self._pending = self._worker.submit(self._commit, temporary, written, target, facts)
        return facts

    def _commit(
        self,
        temporary: Path,
        written: Callable[[], object],
        target: Checkpoint,
        facts: dict[str, Any],
    ) -> None:
        """Wait till the files are written, seal them, give the directory its name."""
        with files.storage(target.path, SAVE):
            try:
                written()
                manifest.write(temporary, facts)
                target.path.parent.mkdir(parents=True, exist_ok=True)
                temporary.rename(target.path)
                files.sync(target.path.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            self._prune(target.phase)

    def wait(self) -> None:
        """Block till the save at work has ended; raises InputError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        self._worker.shutdown()

    def discard_after(self, sequence: int) -> list[Checkpoint]:
        """Delete, and return, every checkpoint saved later than that one."""
        later = [found for found in self.all() if (found.sequence() or 0) > sequence]
        for checkpoint in later:
            files.remove(checkpoint.path)
        return later

    def _prune(self, working: str) -> None:
        for phase in {checkpoint.phase for checkpoint in self.all()}:
            found = self.of(phase)
            steps = [checkpoint for checkpoint in found if not checkpoint.final]
            finished = phase != working and len(steps) < len(found)
            for checkpoint in steps[0 if finished else _KEPT :]:
                files.remove(checkpoint.path)
