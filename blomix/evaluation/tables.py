"""Results -> rows -> Markdown and CSV."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from blomix.data.output import separated_text
from blomix.evaluation.statistics import (
    Result,
    compare,
    interquartile_interval,
    paired,
    strata_of,
    summarize,
)

Row = Mapping[str, Any]


def method_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each (task, n, method): its summary over seeds, and the majority class's score."""
    rows = []
    for (task, n), runs in strata_of(results).items():
        for method in _methods(runs):
            own = [run for run in runs if run["method"] == method]
            majority = sum(run["majority_score"] for run in own) / len(own)
            place = {"task": task, "n": n, "method": method, "metric": own[0]["metric"]}
            rows.append(place | asdict(summarize(own)) | {"majority_score": majority})
    return rows


def overall_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each (n, method): means over its tasks of the interquartile mean, with its 95 %
    interval, of the mean and of the sd over seeds; failed runs, mean share of the task weight that
    alpha left ("–" where there is none), cost."""
    rows = []
    for n in sorted({result["n"] for result in results}):
        for method in _methods(results):
            own = [r for r in results if r["n"] == n and r["method"] == method]
            if not own:
                continue
            centre, (low, high) = interquartile_interval(own)
            tasks = [summarize(runs) for runs in strata_of(own).values()]
            everything = summarize(own)
            facts = [run.get("facts") or {} for run in own]
            shares = [fact["mean_share"] for fact in facts if "mean_share" in fact]
            rows.append(
                {
                    "n": n,
                    "method": method,
                    "tasks": len(tasks),
                    "runs": len(own),
                    "interquartile_mean": centre,
                    "low": low,
                    "high": high,
                    "mean": sum(task.mean for task in tasks) / len(tasks),
                    "sd": sum(task.sd for task in tasks) / len(tasks),
                    "failed": everything.failed,
                    "share": sum(shares) / len(shares) if shares else math.nan,
                    "gradient_evaluations": everything.gradient_evaluations,
                    "gain_per_kilogradient": everything.gain_per_kilogradient,
                }
            )
    return rows


def comparison_rows(results: Sequence[Result], against: str) -> list[dict[str, Any]]:
    """A row for each n and each other method: its paired gain over `against`."""
    rows = []
    for n in sorted({result["n"] for result in results}):
        own = [result for result in results if result["n"] == n]
        methods = [
            method for method in _methods(own) if method != against and paired(own, method, against)
        ]
        rows += [{"n": n} | asdict(found) for found in compare(own, methods, against)]
    return rows


def markdown(rows: Sequence[Row], digits: int = 3) -> str:
    """A Markdown table, numbers to the right; nothing in a cell can break it."""
    if not rows:
        return ""
    names = list(rows[0])
    numeric = [any(isinstance(row[name], int | float) for row in rows) for name in names]
    lines = [
        [_plain(name.replace("_", " ")) for name in names],
        ["---:" if number else "---" for number in numeric],
        *([_cell(row[name], digits) for name in names] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def csv_text(rows: Sequence[Row]) -> str:
    """RFC 4180, numbers in full, formula cells neutralised."""
    return separated_text({name: [row[name] for row in rows] for name in rows[0]}) if rows else ""


def _methods(results: Sequence[Result]) -> list[str]:
    return sorted({result["method"] for result in results})


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 10 else f"{value:.{digits}f}"
    return _plain(str(value))


def _plain(text: str) -> str:
    """One line of literal text: Markdown's and HTML's marks are escaped."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return "".join(f"\\{char}" if char in r"\`*_{}[]<>()#!|&~" else char for char in text)
