"""The trial as a page: the decision first, then what it rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blomix import __version__
from blomix.pilot.decision import COLLECT, GO, METHODS, NAMES, Cell, Decision, learning_curve
from blomix.report.figures import MUTED, SERIES, Chart, canvas
from blomix.report.page import write
from blomix.report.templates import environment
from blomix.report.verdict import NAMES as METRICS
from blomix.runs.files import storage, write_json

_TONES = {GO: "good", COLLECT: "bad"}


def write_page(
    decision: Decision, cells: Sequence[Cell], result: dict[str, Any], out: str | Path
) -> Path:
    """Writes pilot.html, its figures and pilot.json; returns the page's path."""
    metric = METRICS.get(result["metric"], str(result["metric"]))
    drawn = [scores(cells, metric), curves(cells, metric)]
    page = environment().get_template("pilot.html")
    text = page.render(
        version=__version__,
        decision=decision,
        tone=_TONES.get(decision.kind, ""),
        result=result,
        metric=metric,
        names=NAMES,
        charts=drawn,
        spent=spent(cells),
        full=max(cell.n for cell in cells),
        tested=cells[0].tested,
    )
    path = write(text, drawn, Path(out), "pilot.html")
    with storage(path, "write"):
        write_json(path.with_suffix(".json"), result)
    return path


def spent(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Models trained and seconds taken, by method."""
    return [
        {
            "method": method,
            "models": len(own),
            "splits": len({cell.split for cell in own}),
            "seconds": sum(cell.seconds for cell in own),
        }
        for method in METHODS
        if (own := [cell for cell in cells if cell.method == method])
    ]


def scores(cells: Sequence[Cell], metric: str) -> Chart:
    """Each split's score with the most labels, by method, and their mean."""
    full = [cell for cell in cells if cell.n == max(cell.n for cell in cells)]
    methods = [method for method in METHODS if any(cell.method == method for cell in full)]
    with canvas(4.6, 1.0 + 0.5 * len(methods)) as (figure, axes, families):
        for place, method in enumerate(methods):
            own = [cell.score for cell in full if cell.method == method]
            color = SERIES[METHODS.index(method)]
            axes.plot(own, [place] * len(own), "o", color=color, alpha=0.35, markersize=5, mew=0)
            axes.plot(np.mean(own), place, "|", color=color, markersize=22, markeredgewidth=2.5)
        axes.axvline(np.mean([c.majority for c in full]), color=MUTED, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(methods)), methods)
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_xlabel(metric)
    columns = {
        "method": [cell.method for cell in full],
        "split": [cell.split + 1 for cell in full],
        "score": [cell.score for cell in full],
        "ignoring the text": [cell.majority for cell in full],
    }
    caption = "Dots: splits. Bar: their mean. Dashed: ignoring the text."
    return Chart("pilot_scores", "Scores with the most labels", caption, figure, columns, families)


def curves(cells: Sequence[Cell], metric: str) -> Chart:
    """Scores by number of labels, and the power law through them with its interval."""
    sizes = sorted({cell.n for cell in cells})
    grid = np.geomspace(sizes[0], 4 * sizes[-1], 40)
    with canvas(4.6, 3.2) as (figure, axes, families):
        for color, method in zip(SERIES, METHODS, strict=False):
            own = [cell for cell in cells if cell.method == method]
            if not own:
                continue
            place = [cell.n for cell in own], [cell.score for cell in own]
            axes.plot(*place, "o", color=color, markersize=4, alpha=0.5, mew=0)
            curve = learning_curve(cells, method)
            if curve is not None:
                band = [curve.at(n) for n in grid]
                low, high = [b.low for b in band], [b.high for b in band]
                axes.fill_between(grid, low, high, color=color, alpha=0.13, linewidth=0)
                axes.plot(grid, [b.value for b in band], color=color, linewidth=1.2)
            axes.plot([], [], "o-", color=color, markersize=4, label=method)
        axes.axvline(sizes[-1], color=MUTED, linestyle=":", linewidth=1)
        axes.set_xscale("log")
        marks = [*sizes, 2 * sizes[-1], 4 * sizes[-1]]
        axes.set_xticks(marks, [str(n) for n in marks])
        axes.minorticks_off()
        axes.set(xlabel="training labels", ylabel=metric)
        axes.legend(loc="lower right")
    columns = {
        "method": [cell.method for cell in cells],
        "labels": [cell.n for cell in cells],
        "split": [cell.split + 1 for cell in cells],
        "score": [cell.score for cell in cells],
        "seconds": [round(cell.seconds, 3) for cell in cells],
    }
    caption = (
        "A dot is a trained model. Lines are power laws through them with 95% bands; right of the "
        "dotted line they are extrapolations, and the further the less to be trusted."
    )
    return Chart("learning_curve", "Learning curve", caption, figure, columns, families)
