"""One process at a time in a run directory."""

import fcntl
import json
import os
import socket
from pathlib import Path

from blomix.errors import InputError

NAME = "lock"


class Lock:
    """An advisory lock that the kernel drops when its holder ends, however it ends."""

    def __init__(self, directory: Path):
        self._path = directory / NAME
        self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 (held while we run)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = _holder(self._file.read(1000))
            self._file.close()
            raise InputError(
                f"{directory} is in use by {holder}: wait for it to end, "
                "or choose another --run-dir"
            ) from None
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        self._file.flush()

    def held(self) -> bool:
        """Whether the locked file is still the one found under its name."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except OSError:
            return False

    def release(self) -> None:
        self._file.close()


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {int(holder['pid'])} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
