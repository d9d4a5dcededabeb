"""metrics.jsonl: one line a step, and a memory of where it stood at every checkpoint."""

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from blomix.runs import files

_FLUSH_SECONDS = 1.0  # so that a reader sees a slow run move


class Position(NamedTuple):
    """A prefix of the file: its bytes, its lines, and the digest of its bytes."""

    offset: int = 0
    records: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class Metrics:
    """Appends records; nothing that differs between two equal runs may be in one."""

    def __init__(self, path: Path):
        self._path = path
        self._file = open(path, "ab")  # noqa: SIM115 (open as long as the run is)
        self._flushed = time.monotonic()
        self._offset, self._records, _ = Position()
        self._hash = hashlib.sha256()

    def append(self, record: Mapping[str, Any]) -> None:
        line = (files.json_line(record) + "\n").encode()
        self._file.write(line)
        self._hash.update(line)
        self._offset += len(line)
        self._records += 1
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def sync(self) -> Position:
        """Force everything to disk; returns where the file ends now."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Position(self._offset, self._records, self._hash.hexdigest())

    def holds(self, position: Position) -> bool:
        """Whether the file on disk begins with what had been written at `position`."""
        self._file.flush()
        start = self._read(position.offset)
        return position == Position(
            len(start), start.count(b"\n"), hashlib.sha256(start).hexdigest()
        )

    def rewind(self, position: Position) -> None:
        """Drop what comes after `position` and continue from there."""
        self._file.flush()
        self._file.truncate(position.offset)
        self._offset, self._records, _ = position
        self._hash = hashlib.sha256(self._read(position.offset))

    def _read(self, size: int) -> bytes:
        with open(self._path, "rb") as file:
            return file.read(size)

    def close(self) -> None:
        self._file.close()
