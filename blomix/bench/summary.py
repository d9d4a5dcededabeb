"""What a study found: tables and figures of its cells."""

from pathlib import Path
from typing import Any

from blomix.bench.runner import read_record
from blomix.bench.study import Study
from blomix.errors import InputError
from blomix.evaluation import figures, tables
from blomix.runs import files


def summarize(study: Study, results: Path) -> dict[str, Any]:
    """Writes results.md, results.csv and figures beside the study's results.

    Raises:
      InputError: no cell of the study has a result.
    """
    from matplotlib import rc_context

    found = (read_record(results / cell.path) for cell in study.cells())
    records = [costed(record) for record in found if record is not None]
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
    for draw in (figures.score_against_n, figures.spread, figures.gain_against_cost):
        with rc_context({"svg.hashsalt": draw.__name__}):  # the same cells, the same bytes
            draw(records).savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})
    failed = sum("error" in record for record in records)
    return {"cells": len(records), "failed": failed, "summary": str(folder / "results.md")}


def costed(record: dict[str, Any]) -> dict[str, Any]:
    """A failed cell counts as free: what it cost is not known."""
    return record | {
        name: record[name] or 0 for name in ("steps", "gradient_evaluations", "seconds")
    }
