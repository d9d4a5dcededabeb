"""Set finished runs side by side: settings that differ, paired scores, matrices that differ."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Config:
    """Flags of `blomix compare`."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories that `blomix finetune` finished, scored on the same examples. The first is
    what the others are compared with."""
    out: Path | None = None
    """Folder to write compare.html and its figures to; nothing is written if left out."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from dataclasses import asdict

    from blomix.report.compare import compare, write_page
    from blomix.report.reading import RunRecord

    runs = [RunRecord.load(path) for path in config.runs]
    found = compare(runs)
    page = None if config.out is None else str(write_page(found, runs, config.out))
    return {"comparison": asdict(found), "page": page}


def text(result: dict[str, Any]) -> str:
    found = result["comparison"]
    lines = ["settings that differ:" if found["settings"] else "all settings are the same"]
    lines += [f"  {s['name']}: {' | '.join(s['values'])}" for s in found["settings"]]
    lines.append(f"scores ({found['metric']}, with 95% intervals):")
    for score in found["scores"]:
        lines.append(f"  {score['run']}: {_interval(score['score'], '.3f')}")
        if score["gain"] is not None:
            lines[-1] += f", {_interval(score['gain'], '+.3f')} over the first"
    lines += [f"matrices: {sentence}" for sentence in found["sentences"]]
    if result["page"] is not None:
        lines.append(f"page: {result['page']}")
    return "\n".join(lines)


def _interval(found: dict[str, float], form: str) -> str:
    value, low, high = (format(found[name], form) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
