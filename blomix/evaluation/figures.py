"""Results as figures: score against n, spread per method, gain against cost.

Each returns a matplotlib Figure that no global state knows of: save it with `figure.savefig`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix.evaluation.statistics import Result, mean_of_known, paired, score_of, strata_of
from blomix.evaluation.tables import overall_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>"


def score_against_n(results: Sequence[Result]) -> Figure:
    """Interquartile mean over seeds with its 95 % interval, a panel a task, a line a method."""
    figure, panels, styles = _panels(results, "task", "training examples", "interquartile mean")
    for task, axes in panels.items():
        found = overall_rows([result for result in results if result["task"] == task])
        for place, (method, style) in enumerate(styles.items()):
            own = [row for row in found if row["method"] == method]
            n, centre, low, high = (
                np.array([row[name] for row in own], float)
                for name in ("n", "interquartile_mean", "low", "high")
            )
            # A little to the side of each other, so that intervals do not hide one another.
            n = n * 1.02 ** (place - (len(styles) - 1) / 2)
            reach = np.nan_to_num([centre - low, high - centre]).clip(min=0)
            axes.errorbar(n, centre, reach, capsize=3, **style)
        sizes = sorted({row["n"] for row in found})
        axes.set_xscale("log")
        axes.set_xlim(sizes[0] / 1.7, sizes[-1] * 1.7)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    return figure


def spread(results: Sequence[Result]) -> Figure:
    """Every run as a point, less the mean score of its (task, n), and the quartiles as a box.

    What is left is the scatter over seeds and methods, tasks being of different height.
    """
    from matplotlib.figure import Figure

    styles = _styles(results)
    figure = Figure(figsize=(7, 1 + 0.3 * len(styles)), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel("score less the mean of its task and n")
    axes.grid(alpha=0.3)
    cells: dict[tuple, list[float]] = {}
    for result in results:
        cells.setdefault((result["task"], result["n"]), []).append(score_of(result))
    means = {cell: np.mean(scores) for cell, scores in cells.items()}
    points = [
        [score_of(r) - means[r["task"], r["n"]] for r in results if r["method"] == method]
        for method in styles
    ]
    axes.boxplot(points, orientation="horizontal", showfliers=False, widths=0.6)
    for place, (values, style) in enumerate(zip(points, styles.values(), strict=True), 1):
        axes.plot(values, np.full(len(values), place), ls="", alpha=0.35, markersize=4, **style)
    axes.set_yticks(range(1, len(styles) + 1), [style["label"] for style in styles.values()])
    axes.invert_yaxis()
    axes.axvline(0, color="grey", linewidth=0.8)
    return figure


def gain_against_cost(results: Sequence[Result], against: str | None = None) -> Figure:
    """Gain over a method, or over the majority class, against gradient evaluations, a panel a size,
    a point a method.

    The gain is the mean over tasks of the mean gain, as in the tables. A method that has not run on
    all tasks bears their number: its place among the others may be due to the tasks.
    """
    over = "the majority class" if against is None else _label(against)
    x, y = "gradient evaluations (mean)", f"gain over {over}"
    compared = {result["n"] for result in results if against in (None, result["method"])}
    results = [result for result in results if result["n"] in compared]
    figure, panels, styles = _panels(results, "n", x, y)
    for n, axes in panels.items():
        here = [result for result in results if result["n"] == n]
        for method, style in styles.items():
            gains = _gains(here, method, against)
            cost = mean_of_known(r["gradient_evaluations"] for r in here if r["method"] == method)
            known = bool(gains) and not math.isnan(cost)
            place = (cost, np.mean([np.mean(own) for own in gains])) if known else ([], [])
            axes.plot(*place, ls="", **style)
            if known and len(gains) < len(strata_of(here)):
                axes.annotate(f" {len(gains)}", place, fontsize="small", va="center")
        # Symmetric logarithm: a method without gradients (a probe) has its place at 0.
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(left=0)
        axes.margins(x=0.1)
    return figure


def _gains(results: Sequence[Result], method: str, against: str | None) -> list[list[float]]:
    """Gains of a method's runs, a list for each (task, n)."""
    if against is not None:
        pairs = paired(results, method, against)
        return [[score_of(ours) - score_of(theirs) for ours, theirs in own] for own in pairs]
    strata = strata_of(result for result in results if result["method"] == method)
    return [[score_of(run) - run["majority_score"] for run in runs] for runs in strata.values()]


def _label(name: str) -> str:
    """A name as it is: matplotlib reads $ as mathematics and hides a leading underscore."""
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def _panels(results: Sequence[Result], by: str, x: str, y: str):
    """(figure, its axes by value of `by`, a style by method), with a legend of all methods."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    values = sorted({result[by] for result in results})
    styles = _styles(results)
    columns = min(3, len(values))
    rows = math.ceil(len(values) / columns)
    longest = max(len(style["label"]) for style in styles.values())
    lines = 45  # of a column of the legend
    legend = math.ceil(len(styles) / lines)
    size = (
        0.5 + 3 * columns + legend * (0.7 + 0.09 * longest),
        max(1 + 2.7 * rows, 0.5 + 0.22 * min(len(styles), lines)),
    )
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(values) :]:
        axes.set_axis_off()
    for value, axes in zip(values, panels, strict=False):
        axes.set_title(_label(str(value)) if by == "task" else f"n = {value}")
        axes.grid(alpha=0.3)
    figure.supxlabel(x)
    figure.supylabel(y)
    figure.legend(
        handles=[Line2D([], [], ls="", **style) for style in styles.values()],
        loc="outside right upper",
        ncols=legend,
    )
    return figure, dict(zip(values, panels, strict=False)), styles


def _styles(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Colour, marker and label of each method, the same in every figure."""
    methods = sorted({result["method"] for result in results})
    return {
        method: {
            "color": f"C{place}",
            "marker": _MARKERS[(place + place // 10) % len(_MARKERS)],
            "label": _label(method),
        }
        for place, method in enumerate(methods)
    }
