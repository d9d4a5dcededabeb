"""What a study found: tables and figures of its cells."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blomix.bench.jobs import build
from blomix.bench.runner import config_of, is_of, read_record, settings_of
from blomix.bench.study import Cell, Study
from blomix.errors import InputError
from blomix.evaluation import figures, tables
from blomix.runs import files

COSTS = "steps", "gradient_evaluations", "seconds"


def summarize(study: Study, results: Path, folder: Path) -> dict[str, Any]:
    """Writes results.md, results.csv and figures of the cells in `results` into `folder`.

    Returns:
      How many cells the summary is of, how many of them failed, how many it leaves out because
      their settings are no longer the study's ("stale"), and where it lies.

    Raises:
      InputError: no cell of the study has a result, or those of a task are of different rows.
    """
    from matplotlib import rc_context

    found = [(cell, read_record(results / cell.path)) for cell in study.cells()]
    there = [(cell, record) for cell, record in found if record is not None]
    sound = [(cell, record) for cell, record in there if agrees(study, cell, record)]
    costs = {(cell.variant.label, cell.task, cell.n): r for cell, r in sound if "error" not in r}
    records = [
        costed(record, costs.get((cell.variant.label, cell.task, cell.n)))
        for cell, record in sound
        if matches(study, cell, record, costs)
    ]
    _check_scored(records, results)
    if not records:
        raise InputError(f"{results}: no results of this study; run it first")
    rows = tables.method_rows(records)
    sections = ["# Results\n", tables.markdown(tables.overall_rows(records))]
    methods = {record["method"] for record in records}
    for reference in study.against:
        if reference in methods:
            compared = tables.markdown(tables.comparison_rows(records, reference))
            sections += [f"## Paired gain over {reference}\n", compared]
    sections += ["## By task\n", tables.markdown(rows)]
    files.write_text(folder / "results.md", "\n".join(sections))
    files.write_text(folder / "results.csv", tables.csv_text(rows))
    reference = next((name for name in study.against if name in methods), None)
    drawn = {
        "score_against_n": figures.score_against_n(records),
        "spread": figures.spread(records),
        "gain_against_cost": figures.gain_against_cost(records, reference),
    }
    for name, figure in drawn.items():
        with rc_context({"svg.hashsalt": name}):  # the same cells, the same bytes
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    failed = sum("error" in record for record in records)
    counts = {"cells": len(records), "failed": failed, "stale": len(there) - len(records)}
    return counts | {"summary": str(folder / "results.md")}


def _check_scored(records: list[dict[str, Any]], results: Path) -> None:
    """Raises InputError where cells of a task were scored on different rows."""
    rows: dict[str, set[str]] = {}
    for record in records:
        rows.setdefault(record["task"], set()).add(record.get("digests", {}).get("validation"))
    for task, digests in rows.items():
        if len(digests) > 1:
            raise InputError(
                f"{results}: {task}: expected cells that were scored on the same rows, found "
                f"{len(digests)} sets of them; its data changed: run the study again"
            )


def agrees(study: Study, cell: Cell, record: dict[str, Any]) -> bool:
    """Whether a record is of the study's settings. What follows from these and the data is the
    record's own: the head of "auto", the epochs of a variant that matches another's cost."""
    method = build(cell.variant)
    if method.head_init == "auto":
        method = replace(method, head_init=record["config"]["method"]["head_init"])
    if cell.variant.match is not None:
        method = replace(method, epochs=record["config"]["method"]["epochs"])
    told = settings_of(study, cell, method)
    config = config_of(record, method)
    return is_of(cell, record) and config | told == config


def matches(
    study: Study, cell: Cell, record: dict[str, Any], costs: Mapping[tuple, dict[str, Any]]
) -> bool:
    """Whether a record has the cost of the variant that it is to match, as far as both have run."""
    if cell.variant.match is None or "error" in record:
        return True
    other = costs.get((study.matched(cell.variant).label, cell.task, cell.n))
    if other is None:
        return True
    # Steps are whole, and all finishes take the same.
    quantum = build(cell.variant).finishes
    if cell.variant.match_by == "steps":
        return abs(record["steps"] - other["steps"]) <= quantum / 2
    step = record["gradient_evaluations"] / record["steps"]
    return abs(record["gradient_evaluations"] - other["gradient_evaluations"]) < quantum * step


def costed(record: dict[str, Any], other: dict[str, Any] | None) -> dict[str, Any]:
    """A failed cell with the cost of another seed's, NaN where none ended: no seed changes it."""
    if "error" not in record:
        return record
    known = other or {}
    return record | {name: known.get(name, math.nan) for name in COSTS}
