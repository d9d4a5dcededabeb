"""Write what a finished run did as one HTML page, with its figures as PNG, PDF and CSV.

The page tells the story of the first run whose method learns shares; the other runs (plain
finetuning, other seeds) are what its score is measured against.
"""

from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Config:
    """Flags of `blomix report`."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories that `blomix finetune` finished, scored on the same examples."""
    out: Path | None = None
    """Folder to write to; the folder `report` in the first run if left out."""
    tensorboard: Path | None = None
    """Folder to write the runs' logs to as TensorBoard events, a folder a run."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from blomix.errors import InputError
    from blomix.report.page import report

    if not config.runs:
        raise InputError("expected one run directory or more, found none")
    page, verdict = report(config.runs, config.out)
    if config.tensorboard is not None:
        from blomix.report.reading import RunRecord
        from blomix.report.tensorboard import write_events

        folders = distinct([path.resolve().name for path in config.runs])
        for path, folder in zip(config.runs, folders, strict=True):
            write_events(RunRecord.load(path), config.tensorboard / folder)
    return {"report": str(page), "verdict": verdict.headline, "reasons": list(verdict.reasons)}


def distinct(names: list[str]) -> list[str]:
    """The names, with -2, -3, ... after those that came before."""
    found: list[str] = []
    for name in names:
        others = (f"{name}-{i}" for i in count(2))
        found.append(next(one for one in chain([name], others) if one not in found))
    return found


def text(result: dict[str, Any]) -> str:
    return "\n".join([f"{result['verdict']}.", *result["reasons"], f"report: {result['report']}"])
