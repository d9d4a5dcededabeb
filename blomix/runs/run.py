"""A run directory: everything a run needs to be stopped anywhere and continued as if it never was.

The same command, run again, goes through the same phases in the same order. For each one the
training loop calls `restore` and continues from the step that it gives. What had been done after
that checkpoint (later lines of metrics.jsonl, checkpoints of later phases) is dropped first, for it
is about to be done again. With a data order that depends on the step alone, the outcome equals
that of an uninterrupted run bit for bit, on the same versions and the same kind of device.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from blomix.errors import InputError
from blomix.runs import arrays, environment, files, finite, identity, manifest
from blomix.runs.audit import Audit
from blomix.runs.checkpoints import SAVE, Checkpoint, Store, check_phase
from blomix.runs.follower import Follower
from blomix.runs.lock import Lock
from blomix.runs.metrics import Metrics, Position
from blomix.runs.processes import agreed, asked_by_any, is_first, told
from blomix.runs.signals import Interrupted, Signals

PyTree = Any


def open_run(
    path: str | os.PathLike,
    config: Mapping,
    digests: Mapping,
    checkpoint_every: float = 60.0,
    defaults: Mapping | None = None,
) -> "Run | Follower":
    """Begin a run in `path`, or continue the one that was begun there.

    Of several processes the first has the directory's `Run`, the others follow it; all must see the
    same files.

    Args:
      path: a directory that is new, empty, or a run of the same config and data.
      config: the resolved settings (nested mappings, lists, strings, numbers; None is left out).
      digests: digests of the data by name; nested lists and mappings are allowed.
      checkpoint_every: seconds between the saves that `Run.due` asks for.
      defaults: of settings in `config`, where a run of an earlier version has none.

    Raises:
      InputError: the directory is another's (the differences are listed), in use by another
        process, or cannot be written.
    """
    path = Path(path).absolute()  # Orbax takes no other
    if "\0" in str(path):
        raise InputError(f"{str(path)!r}: a NUL byte cannot be part of a path")
    return agreed(
        lambda: (
            _open(path, config, digests, checkpoint_every, defaults or {})
            if is_first()
            else Follower(path)
        )
    )


def _open(
    path: Path, config: Mapping, digests: Mapping, checkpoint_every: float, defaults: Mapping
) -> "Run":
    with files.storage(path, "open the run directory"):
        path.mkdir(parents=True, exist_ok=True)
        identity.refuse_foreign(path)
        lock = Lock(path)
        try:
            return Run(path, lock, config, digests, checkpoint_every, defaults)
        except BaseException:
            lock.release()
            raise


class Run:
    """An open run directory; a context manager. Made by `open_run`.

    A phase is open from `restore(phase, like)` to `save(phase, ..., final=True)`; only then may its
    records be logged and its state saved.
    """

    def __init__(
        self,
        path: Path,
        lock: Lock,
        config: Mapping,
        digests: Mapping,
        checkpoint_every: float,
        defaults: Mapping,
    ):
        self.path = path
        self._lock = lock
        self._since = self._saved_at = time.monotonic()
        self._every = checkpoint_every
        self._seconds_before = 0.0
        now = environment.describe()
        resumed = identity.is_run(path) and identity.has_work(path)
        if resumed:
            identity.compare(path, config, digests, defaults)
        else:
            identity.begin(path, config, digests, now)
        self._store = Store(path / "checkpoints")
        self._audit = Audit(path / "audit.jsonl")
        self._audit.note("resumed" if resumed else "begun", pid=os.getpid())
        for change in identity.environment_changes(path, now):
            self._audit.warn(f"{change}: the result may differ from an unbroken run's in rounding")
        self._finished: dict[str, Any] = {"sequence": 0, "metrics": Position()._asdict()}
        self._done: set[str] = set()
        self._phase: str | None = None
        self._metrics = Metrics(path / identity.METRICS)
        self._signals = Signals()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _) -> None:
        try:
            self.close()
        except InputError as failure:
            if error is None:
                raise
            error.add_note(str(failure))  # the first failure is the one to report

    @property
    def stopping(self) -> bool:
        """Whether SIGTERM or Ctrl-C has come."""
        return self._signals.code is not None

    @property
    def due(self) -> bool:
        """Whether the last save is long enough ago for another."""
        return time.monotonic() - self._saved_at >= self._every

    @property
    def elapsed(self) -> float:
        """Seconds of work, those of earlier sessions up to their last save included."""
        return self._seconds_before + time.monotonic() - self._since

    def finished(self, phase: str) -> bool:
        """Whether the state that `restore` or `save` handled last was the final one of `phase`."""
        return phase in self._done

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl; no time of day or anything else that is not repeatable.

        Floats are written so that they read back as the same bits; non-finite ones as null.
        """
        self._require(self._phase)
        with files.storage(self.path, "write metrics.jsonl in"):
            self._metrics.append(record)

    def save(self, phase: str, step: int, state: PyTree, *, final: bool = False) -> None:
        """Write a checkpoint of `state` in the background; the one before stays till it is whole.

        Args:
          phase: the one last given to `restore`.
          step: steps done in this phase.
          state: a pytree of jax and numpy arrays, PRNG keys and Python numbers.
          final: whether the phase ends here.

        Raises:
          InputError: this save, or the one before it, could not be written (disk full, ...).
          NonFinite: `state` holds an infinite number or NaN; such a state is never saved.
        """
        self._require(phase)
        self.wait()
        finite.check(step, {}, state)  # or the last good state could be pushed out by bad ones
        target = self._store.at(phase, step, final)
        room = agreed(lambda: self._room_for(target))
        told(room and str(room[0]))
        if room is not None:
            directory, position = room
            facts = {"step": step, "seconds": self.elapsed, "metrics": position._asdict()}
            saved = self._store.save(target, directory, state, facts)
            self._finished = saved if final else self._finished
            self._saved_at = time.monotonic()
        if final:
            self._done.add(phase)
            self._phase = None

    def restore(
        self, phase: str, like: PyTree, like_final: PyTree = None
    ) -> tuple[int, PyTree] | None:
        """Enter `phase`: the newest of its checkpoints whose files are all intact, if there is one.

        Damaged ones are named on stderr and in audit.jsonl, and deleted. Where nothing is left the
        phase starts over. Call this for every phase, finished ones included, in their fixed order.

        Args:
          phase: a name such as "finetune", or two such as "search/0".
          like: a pytree of the structure, shapes, dtypes and shardings to restore.
          like_final: the same for the final save, where that holds something else.

        Returns:
          The steps done and the state, or None: start the phase from its beginning.
        """
        check_phase(phase)
        if self._phase not in (None, phase):
            raise RuntimeError(
                f"phase {self._phase!r} is still open: save it with final=True first"
            )
        self.wait()
        self._phase = phase
        with files.storage(self.path, "read the checkpoints of"):
            found = agreed(lambda: self._newest(phase))
            if found is None:
                told(None)
                self._rewind(self._finished)
                return None
            checkpoint, facts = found
            told([str(checkpoint.path), checkpoint.final, facts])
            wanted = like_final if checkpoint.final and like_final is not None else like
            state = arrays.load(checkpoint.path, wanted, facts["leaves"])
            self._enter(checkpoint, facts)
            return facts["step"], state

    def stop_if_asked(self, phase: str, step: int, state: PyTree) -> None:
        """After a signal: save, wait for the save, and raise `Interrupted` with its exit code."""
        code = asked_by_any(self._signals.code)
        if code is None:
            return
        self.save(phase, step, state)
        self.wait()
        self._audit.note("interrupted", phase=phase, step=step, code=code)
        raise Interrupted(code)

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` as the file `name` of the run directory, all of it or nothing."""
        with files.storage(self.path / name, "write"):
            files.write_json(self.path / name, value)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write the file `name` of the run directory, all of it or nothing."""
        with files.storage(self.path / name, "write"):
            files.write_bytes(self.path / name, data)

    def write_lines(self, name: str, values: Iterable[Any]) -> None:
        """Write `values` as JSON lines, all of them or nothing."""
        with files.storage(self.path / name, "write"):
            lines = [files.json_line(value) + "\n" for value in values]
            files.write_text(self.path / name, "".join(lines))

    def records(self) -> list[dict[str, Any]]:
        """What has been logged, by this session and those before it."""
        with files.storage(self.path, "read metrics.jsonl in"):
            self._metrics.sync()
            return files.read_lines(self.path / identity.METRICS)

    def wait(self) -> None:
        """Block till the save at work is on disk; raises InputError if it failed, anywhere."""
        agreed(self._store.wait)

    def close(self) -> None:
        """Wait for the save at work, then let go of the directory and of the signals."""
        with ExitStack() as last:  # from the last to the first, whatever fails on the way
            last.callback(self._lock.release)
            last.callback(self._close_metrics)
            last.callback(self._signals.close)
            last.callback(self._store.close)
            self._store.wait()

    def _close_metrics(self) -> None:
        with files.storage(self.path, "write metrics.jsonl in"):
            self._metrics.close()

    def _room_for(self, target: Checkpoint) -> tuple[Path, Position] | None:
        """A directory to write `target` in, and where metrics.jsonl ends, all of it on disk.

        None where this very step's state is saved already.
        """
        if target.path.exists():
            return None
        self._require_directory()
        with files.storage(target.path, SAVE):
            position = self._metrics.sync()
        return self._store.room_for(target), position

    def _newest(self, phase: str) -> tuple[Checkpoint, dict[str, Any]] | None:
        """The newest intact checkpoint of `phase` and its facts; damaged ones are deleted."""
        for checkpoint in self._store.of(phase):
            try:
                return checkpoint, self._verified(checkpoint)
            except manifest.Damaged as error:
                self._audit.warn(f"{error}; going back to the one before it")
                files.remove(checkpoint.path)
        return None

    def _verified(self, checkpoint: Checkpoint) -> dict[str, Any]:
        facts = checkpoint.verify()
        if not self._metrics.holds(Position(**facts["metrics"])):
            raise manifest.Damaged(
                f"{checkpoint.path} cannot be used: the lines of metrics.jsonl written before it "
                "are missing or changed"
            )
        return facts

    def _enter(self, checkpoint: Checkpoint, facts: dict[str, Any]) -> None:
        self._seconds_before = max(self._seconds_before, facts["seconds"])
        if checkpoint.final:  # nothing of this phase is done again, so nothing after it is void
            self._finished = facts
            self._done.add(checkpoint.phase)
            self._phase = None
        else:
            self._rewind(facts)
        self._audit.note("restored", phase=checkpoint.phase, step=facts["step"])

    def _rewind(self, facts: dict[str, Any]) -> None:
        for dropped in self._store.discard_after(facts["sequence"]):
            self._audit.note("dropped", phase=dropped.phase, name=dropped.path.name)
        self._metrics.rewind(Position(**facts["metrics"]))

    def _require_directory(self) -> None:
        if not self._lock.held():
            raise InputError(
                f"{self.path} was deleted or replaced while the run was at work: "
                "nothing can be saved there; run the same command again"
            )

    def _require(self, phase: str | None) -> None:
        if phase is None or phase != self._phase:
            raise RuntimeError(
                f"phase {phase!r} is not open: call restore() first; open is {self._phase!r}"
            )
