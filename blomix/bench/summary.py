"""What a study found: tables and figures of its cells."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blomix.bench.jobs import build, matched_epochs
from blomix.bench.runner import config_of, is_of, read_record, settings_of
from blomix.bench.study import Cell, Study
from blomix.errors import InputError
from blomix.evaluation import figures, tables
from blomix.runs import files


def summarize(study: Study, results: Path) -> dict[str, Any]:
    """Writes results.md, results.csv and figures beside the study's results.

    Returns:
      How many cells the summary is of, how many of them failed, how many it leaves out because
      their settings are no longer the study's ("stale"), and where it lies.

    Raises:
      InputError: no cell of the study has a result.
    """
    from matplotlib import rc_context

    found = [(cell, read_record(results / cell.path)) for cell in study.cells()]
    there = [(cell, record) for cell, record in found if record is not None]
    sound = [(cell, record) for cell, record in there if agrees(study, cell, record)]
    costs = {(cell.variant.name, cell.task, cell.n): r for cell, r in sound if "error" not in r}
    records = [costed(record) for cell, record in sound if matches(cell, record, costs)]
    if not records:
        raise InputError(f"{results}: no results of this study; run it first")
    folder = results.parent
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


def matches(cell: Cell, record: dict[str, Any], costs: Mapping[tuple, dict[str, Any]]) -> bool:
    """Whether a record has the cost of the variant that it is to match, as far as that has run."""
    other = costs.get((cell.variant.match, cell.task, cell.n))
    if other is None:
        return True
    method, cost = record["config"]["method"], (other["steps"], other["gradient_evaluations"])
    return math.isclose(method["epochs"], matched_epochs(cell, method["batch_size"], *cost))


def costed(record: dict[str, Any]) -> dict[str, Any]:
    """A failed cell counts as free: what it cost is not known."""
    return record | {
        name: record[name] or 0 for name in ("steps", "gradient_evaluations", "seconds")
    }
