"""The report's figures, one function each."""

from collections.abc import Mapping, Sequence

import numpy as np

from blomix.report import course, predictions
from blomix.report.figures import INK, MUTED, SERIES, Chart, canvas, drawable
from blomix.report.modules import Grid, name_of
from blomix.report.reading import RunRecord
from blomix.report.text import visible
from blomix.report.verdict import NAMES, Verdict

_THIN = {"linewidth": 0.8, "alpha": 0.35}


def scores(verdict: Verdict) -> Chart:
    """A point and its interval a method."""
    count = {
        s.method: f" ({len(s.seeds)} seeds)" if s.sd is not None else "" for s in verdict.scores
    }
    names = [f"{method}{seeds}" for method, seeds in count.items()]
    shown = drawable([visible(name, 40) for name in names], 26)
    with canvas(4.6, 0.9 + 0.36 * len(names), shown) as (figure, axes, families):
        for place, score in enumerate(verdict.scores):
            color = SERIES[0] if score is verdict.subject else MUTED
            ends = [score.score.low, score.score.high]
            axes.plot(ends, [place, place], color=color, linewidth=2, solid_capstyle="round")
            axes.plot(score.score.value, place, "o", color=color, markersize=7)
        axes.axvline(verdict.majority, color=SERIES[1], linestyle="--", linewidth=1)
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(NAMES.get(verdict.metric, verdict.metric))
    return Chart(
        "scores",
        "Score of each method",
        "With 95% intervals; dashed: ignoring the text.",
        figure,
        {
            "method": [score.method for score in verdict.scores],
            "seeds": [len(score.seeds) for score in verdict.scores],
            "score": [score.score.value for score in verdict.scores],
            "low": [score.score.low for score in verdict.scores],
            "high": [score.score.high for score in verdict.scores],
        },
        families,
    )


def module_map(found: Grid, name: str, title: str, caption: str, percent: bool) -> Chart:
    """Layers by kinds of matrices, the layer nearest the text at the bottom."""
    rows, columns = found.values.shape
    with canvas(4.6, 1.3 + 0.26 * rows) as (figure, axes, families):
        drawn = np.ma.masked_invalid(found.values)
        low, high = float(drawn.min()), float(drawn.max())
        if high - low < 1e-9:
            low, high = low - 1e-9, high + 1e-9
        # Viridis rises evenly in lightness: it reads the same in grey and for every kind of sight.
        mesh = axes.pcolormesh(
            drawn, cmap="viridis", vmin=low, vmax=high, edgecolors="none", rasterized=False
        )
        size = 8 if rows <= 12 else 6.5
        for (row, column), value in np.ndenumerate(found.values):
            if np.isfinite(value):
                light = (value - low) / (high - low) > 0.6
                label = f"{100 * value:.2f}" if percent else f"{value:.3f}"
                color = "#101010" if light else "#fefefe"
                place = {"ha": "center", "va": "center", "fontsize": size, "color": color}
                axes.text(column + 0.5, row + 0.5, label, **place)
        axes.set_xticks(
            np.arange(columns) + 0.5,
            [kind.replace("-", "-\n").replace(" ", "\n") for kind in found.kinds],
        )
        axes.set_yticks(np.arange(rows) + 0.5, [str(layer + 1) for layer in found.layers])
        axes.set_ylabel("layer")
        axes.tick_params(length=0, labelsize=8)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(mesh, ax=axes, aspect=28, pad=0.02)
        bar.outline.set_visible(False)
        if bar.solids is not None:  # thin white lines between the colours otherwise
            bar.solids.set(edgecolor="face", rasterized=False)
        bar.ax.yaxis.set_major_formatter(
            lambda value, _: f"{100 * value:.3g}%" if percent else f"{value:.4g}"
        )
    cells = [
        (layer + 1, kind, found.values[i, j])
        for i, layer in enumerate(found.layers)
        for j, kind in enumerate(found.kinds)
        if np.isfinite(found.values[i, j])
    ]
    cells += [("", kind, value) for kind, value in found.others.items()]
    layer, kind, value = zip(*cells, strict=True)
    columns = {"layer": layer, "matrix": kind, name: value}
    return Chart(name, title, caption, figure, columns, families)


def alpha_over_time(found: course.Alpha) -> Chart:
    with canvas() as (figure, axes, families):
        for mean in found.mean:
            axes.plot(found.steps, mean, color=SERIES[0], **_THIN)
        axes.plot(found.steps, found.mean.mean(0), color=SERIES[0], label="mean over folds")
        _step_axis(axes, "outer step")
        axes.set_ylabel("mean share of the task weight")
        axes.ticklabel_format(axis="y", useOffset=False)
        if len(found.mean) > 1:
            axes.plot([], [], color=SERIES[0], label="one fold", **_THIN)
            axes.legend()
    columns = {"step": found.steps.tolist()}
    columns |= {f"fold {i}": mean.tolist() for i, mean in enumerate(found.mean, 1)}
    caption = "The share of the task weight, averaged over all mixed matrices, during the search."
    return Chart("alpha_over_time", "Alpha over time", caption, figure, columns, families)


def fold_agreement(found: course.Alpha, matrices: Mapping[str, dict]) -> Chart:
    """Each matrix' share by fold, the matrices in the order of their mean share."""
    order = np.argsort(found.final.mean(0), kind="stable")
    final = found.final[:, order]
    x = np.arange(1, final.shape[1] + 1)
    with canvas() as (figure, axes, families):
        axes.vlines(x, final.min(0), final.max(0), color=SERIES[0], linewidth=1.2, alpha=0.4)
        axes.plot(x, final.mean(0), "o", markersize=3, color=SERIES[0])
        axes.set_xlabel("matrices, the lowest mean share first")
        axes.set_ylabel("share of the task weight")
        axes.ticklabel_format(axis="y", useOffset=False)
    columns: dict[str, Sequence] = {
        "matrix": [name_of(matrices[found.paths[i]]) for i in order],
        "path": [found.paths[i] for i in order],
    }
    columns |= {f"fold {i}": shares.tolist() for i, shares in enumerate(final, 1)}
    caption = (
        "The mean share of each matrix: a dot is the mean over folds, a line reaches from the "
        "lowest fold to the highest. Lines longer than the rise of the dots: the folds differ."
    )
    return Chart("fold_agreement", "Agreement of the folds", caption, figure, columns, families)


def curves(
    run: RunRecord, names: Mapping[str, str], search: bool, name: str, title: str, log: bool
) -> Chart | None:
    """Logged quantities by step: each lane thin, the smoothed mean over lanes bold."""
    found = {label: course.series(run.metrics, key, search) for key, label in names.items()}
    shown = {label: series for label, series in found.items() if series is not None}
    if not shown:
        return None
    columns: dict[str, Sequence] = {}
    with canvas() as (figure, axes, families):
        for color, (label, series) in zip(SERIES, shown.items(), strict=False):
            length = min(map(len, series.values))
            for steps, values in zip(series.steps, series.values, strict=True):
                axes.plot(steps, values, color=color, **_THIN)
            mean = np.mean([values[:length] for values in series.values], axis=0)
            axes.plot(series.steps[0][:length], course.smooth(mean), color=color, label=label)
            columns |= {"step": series.steps[0][:length].tolist()}
            columns |= {
                f"{label}, lane {i}": values[:length].tolist()
                for i, values in enumerate(series.values, 1)
            }
        _step_axis(axes, "outer step" if search else "step")
        axes.set_ylabel(title.split(" in ")[0].lower())
        if log:
            _norm_axis(axes, np.concatenate([v for s in shown.values() for v in s.values]))
        else:
            axes.set_ylim(bottom=0)
        if len(shown) > 1:
            axes.legend()
    caption = (
        "Thin: each fold or run as logged. Bold: their mean, smoothed over a tenth of the steps."
    )
    return Chart(name, title, caption, figure, columns, families)


def learning_rates(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Chart:
    with canvas() as (figure, axes, families):
        for color, (label, (steps, rate)) in zip(SERIES, found.items(), strict=False):
            axes.plot(steps[rate > 0], rate[rate > 0], color=color, label=label)
        _norm_axis(axes, np.concatenate([rate for _, rate in found.values()]))
        _step_axis(axes, "step of the phase")
        axes.set_ylabel("learning rate")
        axes.legend()
    rows = [
        (label, int(step), float(value))
        for label, (steps, rate) in found.items()
        for step, value in zip(steps, rate, strict=True)
    ]
    phase, step, rate = zip(*rows, strict=True)
    caption = "The schedules that the recipe's settings give. Each phase counts its own steps."
    columns = {"phase": phase, "step": step, "learning rate": rate}
    return Chart("learning_rates", "Learning rates", caption, figure, columns, families)


def confusion(found: predictions.Confusion) -> Chart:
    shown = drawable([visible(name, 40) for name in found.names], 14)
    n = len(shown)
    share = found.counts / np.maximum(found.counts.sum(1, keepdims=True), 1)
    with canvas(4.6, 1.2 + 0.9 * min(3.4, 0.36 * n + 0.5), shown) as (figure, axes, families):
        axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="none")
        for (row, column), count in np.ndenumerate(found.counts):
            color = "#fefefe" if share[row, column] > 0.55 else "#101010"
            place = {"ha": "center", "va": "center", "fontsize": 8 if n <= 12 else 5.5}
            axes.text(column + 0.5, row + 0.5, str(count), color=color, **place)
        axes.set_xticks(
            np.arange(n) + 0.5, shown, rotation=30 if n > 3 and max(map(len, shown)) > 3 else 0
        )
        axes.set_yticks(np.arange(n) + 0.5, shown)
        axes.invert_yaxis()
        axes.set(xlabel="predicted", ylabel="true label")
        axes.tick_params(length=0, labelsize=8 if n <= 12 else 6)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    columns: dict[str, Sequence] = {"true label": found.names}
    columns |= {
        f"predicted {name}": found.counts[:, i].tolist() for i, name in enumerate(found.names)
    }
    caption = "Counts of scored examples; the darker, the larger the share of its true label."
    if shown[0] != found.names[0] and shown[0] == "1":
        caption += " No font here has the labels’ characters; the table below names the numbers."
    return Chart("confusion", "Confusion matrix", caption, figure, columns, families)


def scatter(run: RunRecord) -> Chart:
    with canvas() as (figure, axes, families):
        ends = [
            min(run.labels.min(), run.predicted.min()),
            max(run.labels.max(), run.predicted.max()),
        ]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle="--")
        axes.plot(run.labels, run.predicted, "o", color=SERIES[0], markersize=3, alpha=0.35, mew=0)
        axes.set(xlabel="true value", ylabel="predicted value")
    columns = {"true": run.labels.tolist(), "predicted": run.predicted.tolist()}
    caption = "Each scored example; on the dashed line a prediction is right."
    return Chart("scatter", "Predicted against true values", caption, figure, columns, families)


def calibration(found: predictions.Calibration) -> Chart:
    with canvas() as (figure, axes, families):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
        size = 20 + 180 * found.counts / found.counts.max()
        axes.plot(found.confidence, found.accuracy, color=SERIES[0], linewidth=1, alpha=0.6)
        axes.scatter(found.confidence, found.accuracy, s=size, color=SERIES[0], edgecolor="none")
        for x, y, count in zip(found.confidence, found.accuracy, found.counts, strict=True):
            axes.annotate(
                str(count),
                (x, y),
                (0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=INK,
            )
        axes.set(xlabel="stated probability", ylabel="share that is right", ylim=(-0.03, 1.12))
        axes.set_xlim(max(0.0, found.confidence.min() - 0.1), 1.03)
    columns = {
        "stated probability": found.confidence.tolist(),
        "share right": found.accuracy.tolist(),
        "examples": found.counts.tolist(),
    }
    caption = (
        "Scored examples by the probability of the chosen label, with their number. Below the "
        "dashed line the model is too sure of itself."
    )
    return Chart("calibration", "Calibration", caption, figure, columns, families)


def _step_axis(axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _norm_axis(axes, values: np.ndarray) -> None:
    """From 0, or logarithmic (at most five decades down) where values differ by more than ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    positive = values[values > 0]
    low, high = max(positive.min(), positive.max() / 1e5), positive.max()
    if high < 10 * low:
        axes.set_ylim(0, 1.15 * high)
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.3, high * 1.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
