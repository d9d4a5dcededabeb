"""Results as figures: score against n, spread per method, gain against cost.

Each returns a matplotlib Figure that no global state knows of: save it with `figure.savefig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix.evaluation.statistics import Result, score_of
from blomix.evaluation.tables import overall_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>"


def score_against_n(results: Sequence[Result]) -> Figure:
    """Interquartile mean over tasks and seeds with its 95 % interval, a line a method."""
    figure, axes = _axes("training examples", "interquartile mean score")
    rows = overall_rows(results)
    styles = _styles(results)
    for place, (method, style) in enumerate(styles.items()):
        own = [row for row in rows if row["method"] == method]
        n, centre, low, high = (
            np.array([row[name] for row in own], float)
            for name in ("n", "interquartile_mean", "low", "high")
        )
        # A little to the side of each other, so that intervals do not hide one another.
        n = n * 1.02 ** (place - (len(styles) - 1) / 2)
        reach = np.nan_to_num([centre - low, high - centre]).clip(min=0)
        axes.errorbar(n, centre, reach, capsize=3, **style)
    sizes = sorted({row["n"] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.legend()
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


def gain_against_cost(results: Sequence[Result]) -> Figure:
    """Mean score above the majority class's against mean gradient evaluations, a point a method."""
    figure, axes = _axes("gradient evaluations (mean)", "score above the majority class (mean)")
    for method, style in _styles(results).items():
        own = [result for result in results if result["method"] == method]
        cost = np.mean([result["gradient_evaluations"] for result in own])
        gain = np.mean([score_of(result) - result["majority_score"] for result in own])
        axes.plot(cost, gain, ls="", **style)
    # Symmetric logarithm: a method without gradients (a probe) has its place at 0.
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    axes.legend()
    return figure


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    return figure, axes


def _styles(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Colour, marker and label of each method, the same in every figure.

    A label is shown as it is: matplotlib reads $ as mathematics and hides a leading underscore.
    """
    methods = sorted({result["method"] for result in results})
    return {
        method: {
            "color": f"C{place}",
            "marker": _MARKERS[place % len(_MARKERS)],
            "label": (" " if method.startswith("_") else "") + method.replace("$", r"\$"),
        }
        for place, method in enumerate(methods)
    }
