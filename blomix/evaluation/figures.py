"""Results as figures: score against n, spread per method, gain against cost.

Each returns a matplotlib Figure that no global state knows of: save it with `figure.savefig`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix.evaluation.statistics import Result, paired, score_of, strata_of
from blomix.evaluation.tables import overall_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>"


def score_against_n(results: Sequence[Result]) -> Figure:
    """Interquartile mean over seeds with its 95 % interval, a panel a task, a line a method."""
    from matplotlib.figure import Figure

    tasks = sorted({result["task"] for result in results})
    columns = min(3, len(tasks))
    rows = math.ceil(len(tasks) / columns)
    figure = Figure(figsize=(1 + 3.5 * columns, 1.5 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    styles = _styles(results)
    for task, axes in zip(tasks, panels, strict=False):
        axes.set_title(_label(task))
        axes.grid(alpha=0.3)
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
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    figure.supxlabel("training examples")
    figure.supylabel("interquartile mean score")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def spread(results: Sequence[Result]) -> Figure:
    """Every run as a point, less the mean score of its (task, n), and the quartiles as a box.

    What is left is the scatter over seeds and methods, tasks being of different height.
    """
    figure, axes = _axes("score less the mean of its task and n", "")
    cells: dict[tuple, list[float]] = {}
    for result in results:
        cells.setdefault((result["task"], result["n"]), []).append(score_of(result))
    means = {cell: np.mean(scores) for cell, scores in cells.items()}
    styles = _styles(results)
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
    """Gain over a method, or over the majority class, against gradient evaluations, a point a
    method.

    The gain is the mean over (task, n) of the mean gain, as in the tables. A method that has not
    run on all of them says on how many it has: its place among the others may be due to the tasks.
    """
    over = "the majority class" if against is None else _label(against)
    figure, axes = _axes("gradient evaluations (mean)", f"gain over {over}")
    everywhere = len(strata_of(results))
    for method, style in _styles(results).items():
        gains = _gains(results, method, against)
        if not gains:
            continue  # no run in common with `against`
        if len(gains) < everywhere:
            style = style | {"label": f"{style['label']} ({len(gains)} of {everywhere})"}
        cost = np.mean([r["gradient_evaluations"] for r in results if r["method"] == method])
        axes.plot(cost, np.mean([np.mean(own) for own in gains]), ls="", **style)
    # Symmetric logarithm: a method without gradients (a probe) has its place at 0.
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.legend()
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


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _styles(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Colour, marker and label of each method, the same in every figure."""
    methods = sorted({result["method"] for result in results})
    return {
        method: {
            "color": f"C{place}",
            "marker": _MARKERS[place % len(_MARKERS)],
            "label": _label(method),
        }
        for place, method in enumerate(methods)
    }
