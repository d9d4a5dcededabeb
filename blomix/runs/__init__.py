"""Run directories: exact resumption, verified files, one process at a time."""

from blomix.runs import finite, manifest
from blomix.runs.files import finished, read_json
from blomix.runs.finite import NonFinite
from blomix.runs.manifest import Damaged
from blomix.runs.run import Run, open_run
from blomix.runs.signals import EXIT_CODES, Interrupted

__all__ = [
    "EXIT_CODES",
    "Damaged",
    "Interrupted",
    "NonFinite",
    "Run",
    "finished",
    "finite",
    "manifest",
    "open_run",
    "read_json",
]
