"""The HTML report of a run, beside others it is measured against."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blomix import __version__
from blomix.errors import InputError
from blomix.evaluation.resampling import DRAWS
from blomix.report import advice, charts, course, modules, predictions
from blomix.report.audit import audit
from blomix.report.card import base_model
from blomix.report.figures import Chart
from blomix.report.reading import RunRecord
from blomix.report.templates import environment
from blomix.report.verdict import NAMES, Verdict, judge


def report(paths: Sequence[str | Path], out: str | Path | None = None) -> tuple[Path, Verdict]:
    """Writes report.html and the folder `figures`.

    The report tells the story of one run, the first whose method learns shares (or the first);
    the others are what its score is measured against.

    Args:
      paths: finished run directories, scored on the same examples.
      out: the folder to write to; the folder `report` in the first run if left out.

    Returns:
      The page's path, and its verdict.

    Raises:
      InputError: a run that is not finished, is damaged or was scored on other examples, or a
        folder that cannot be written.
    """
    runs = [RunRecord.load(path) for path in paths]
    run = next((run for run in runs if run.has_shares), runs[0])
    verdict = judge(runs, run)
    drawn = _charts(run, verdict)
    page = environment().get_template("report.html").render(_words(run, verdict) | drawn)
    path = write(page, _flat(drawn), Path(out or runs[0].path / "report"), "report.html")
    return path, verdict


def write(page: str, drawn: Sequence[Chart], out: Path, name: str) -> Path:
    """Writes a page and its figures, over those of an earlier report."""
    figures = out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        for chart in drawn:
            chart.save(figures)
        path = out / name
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    return path


def _charts(run: RunRecord, verdict: Verdict) -> dict[str, Any]:
    drawn: dict[str, Any] = {
        "scores_chart": charts.scores(verdict),
        "module_charts": module_charts(run),
        "alpha_charts": [],
        "training_charts": _training_charts(run),
    }
    found = course.alpha(run)
    if found is not None:
        drawn["alpha_charts"].append(charts.alpha_over_time(found))
        if course.agreement(found) is not None:
            matrices = {matrix["path"]: matrix for matrix in run.matrices}
            drawn["alpha_charts"].append(charts.fold_agreement(found, matrices))
    if run.is_regression:
        drawn["prediction_charts"] = [charts.scatter(run)]
    else:
        drawn["prediction_charts"] = [
            charts.confusion(predictions.confusion(run)),
            charts.calibration(predictions.calibration(run)),
        ]
    return drawn


def module_charts(run: RunRecord) -> list[Chart]:
    """The maps of shares (where there are any) and of effective change."""
    drawn = []
    for key, title, caption, percent in (
        (
            "share",
            "Share of the task weight kept",
            "1: the task weight alone, 0: the pretrained weight alone. Means over each matrix. "
            "Colours run from the lowest value to the highest, however near they lie.",
            False,
        ),
        (
            "change",
            "Effective change",
            "How far each matrix ended from its pretrained self, in per cent of its norm.",
            True,
        ),
    ):
        grid = modules.grid(run.matrices, key)
        if grid.values.size:
            form = "{:.2%}" if percent else "{:.3f}"
            others = ", ".join(f"{name} {form.format(v)}" for name, v in grid.others.items())
            caption = f"{caption} Outside the layers: {others}." if others else caption
            drawn.append(charts.module_map(grid, key, title, caption, percent))
    return drawn


def _training_charts(run: RunRecord) -> list[Chart]:
    losses = {"inner_loss": "inner: trained on", "outer_loss": "outer: alpha’s split"}
    norms = {"gradient_norm": "gradient", "hypergradient_norm": "hypergradient"}
    drawn = [
        charts.curves(run, losses, True, "search_losses", "Loss in the search", log=False),
        charts.curves(run, {"loss": "loss"}, False, "losses", "Loss in finetuning", log=False),
        charts.curves(run, norms, True, "search_norms", "Norms in the search", log=True),
        charts.curves(
            run, {"gradient_norm": "gradient"}, False, "norms", "Norms in finetuning", log=True
        ),
    ]
    if rates := course.learning_rates(run):
        drawn.append(charts.learning_rates(rates))
    return [chart for chart in drawn if chart is not None]


def _words(run: RunRecord, verdict: Verdict) -> dict[str, Any]:
    found = course.alpha(run)
    return {
        "version": __version__,
        "draws": DRAWS,
        "summary": run.summary,
        "base": base_model(run.summary),
        "metric": NAMES.get(run.metric, run.metric),
        "verdict": verdict,
        "also": ", ".join(
            f"{NAMES[name]} {value:.3f}"
            for name, value in run.summary["metrics"].items()
            if name in NAMES and name != run.metric
        ),
        "tone": _tone(verdict),
        "has_shares": run.has_shares,
        "module_origin": modules.origin(run),
        "module_sentences": modules.sentences(run),
        "ranking": modules.ranking(run.matrices),
        "profiles": _by_layer(run),
        "agreement": None if found is None else course.agreement(found),
        "signs": advice.signs(run),
        "calibration": None if run.is_regression else predictions.calibration(run),
        "confusion": None if run.is_regression else predictions.confusion(run),
        "errors": predictions.confident_errors(run),
        "audit": audit(run),
    }


def _by_layer(run: RunRecord) -> list[dict[str, Any]]:
    """The matrices that have profiles, in the order of the layers."""
    profiles = modules.profiles(run)
    layers: dict[str, list] = {}
    for matrix in modules.in_order(run.matrices):
        if matrix["path"] in profiles:
            outside = matrix["layer"] is None
            layer = "Outside the layers" if outside else f"Layer {matrix['layer'] + 1}"
            layers.setdefault(layer, []).append((matrix, profiles[matrix["path"]]))
    return [{"name": name, "matrices": own} for name, own in layers.items()]


def _tone(verdict: Verdict) -> str:
    ours = verdict.subject
    if not ours.over_majority.above_zero or (ours.over_plain and ours.over_plain.below_zero):
        return "bad"
    return "good" if ours.over_plain and ours.over_plain.above_zero else ""


def _flat(drawn: dict[str, Any]) -> list[Chart]:
    return [
        chart
        for value in drawn.values()
        for chart in (value if isinstance(value, list) else [value])
    ]
