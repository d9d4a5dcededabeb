"""audit.jsonl: what happened to a run directory, when, and by which process."""

import sys
import time
from pathlib import Path
from typing import Any

from blomix.runs import files


class Audit:
    """Appends one line an event; unlike metrics.jsonl it differs from run to run."""

    def __init__(self, path: Path):
        self._path = path

    def note(self, event: str, **facts: Any) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = files.json_line({"time": stamp, "event": event, **facts})
        with (
            files.storage(self._path, "write"),
            open(self._path, "a", encoding="utf-8") as file,
        ):
            file.write(line + "\n")

    def warn(self, message: str) -> None:
        """Note it and tell the user."""
        print(f"warning: {message}", file=sys.stderr, flush=True)
        self.note("warning", message=message)
