"""Run directories of real runs, from what tests/golden/runs/make.py kept of them."""

import gzip
import json
from pathlib import Path
from typing import Any

from blomix.pilot.decision import Cell

KEPT = Path(__file__).parents[1] / "golden" / "runs"


def unpack(name: str, folder: Path) -> Path:
    """Writes the files of a kept run to `folder`/`name`."""
    run = folder / name
    run.mkdir(parents=True)
    with gzip.open(KEPT / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        for path, text in json.load(file).items():
            (run / path).write_text(text, encoding="utf-8")
    return run


def pilot() -> tuple[list[Cell], dict[str, Any]]:
    """The scores of a pilot on the headlines, and its pilot.json."""
    result = json.loads((KEPT / "pilot_headlines.json").read_text(encoding="utf-8"))
    return [Cell(**cell) for cell in result["cells"]], result
