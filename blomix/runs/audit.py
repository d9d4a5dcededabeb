"""audit.jsonl: what happened to a run directory, when, and by which process."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from blomix.runs import files

_LONGEST = 2**16  # bytes of a line


class Audit:
    """Appends one line an event; unlike metrics.jsonl it differs from run to run."""

    def __init__(self, path: Path):
        self._path = path
        self._drop_torn_line()

    def note(self, event: str, **facts: Any) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = files.json_line({"time": stamp, "event": event, **facts})
        with (
            files.storage(self._path, "write"),
            open(self._path, "a", encoding="utf-8") as file,
        ):
            file.write(line + "\n")

    def _drop_torn_line(self) -> None:
        """A full disk, or the machine's end, may have cut the last line short."""
        if self._path.is_symlink() or not self._path.is_file():
            return
        with files.storage(self._path, "write"), open(self._path, "r+b") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _LONGEST)
            file.seek(start)
            last = file.read().rfind(b"\n")
            if last >= 0 or start == 0:
                file.truncate(start + last + 1)

    def warn(self, message: str) -> None:
        """Note it and tell the user."""
        print(f"warning: {message}", file=sys.stderr, flush=True)
        self.note("warning", message=message)
