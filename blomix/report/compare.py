"""Runs side by side: settings that differ, paired scores, matrices that differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blomix import __version__
from blomix.errors import InputError
from blomix.evaluation import metrics, resampling
from blomix.evaluation.resampling import Interval
from blomix.report import charts, modules
from blomix.report.page import write
from blomix.report.reading import RunRecord
from blomix.report.templates import environment
from blomix.report.text import visible
from blomix.report.verdict import NAMES, same_examples

_MOST = 8  # matrices that are named
_UNSET = "not set"
# Flags that the resolved settings do not repeat.
_SOURCES = ("task", "train", "validation", "text", "text_pair", "label", "subset_seed")


@dataclass(frozen=True)
class Setting:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class RunScore:
    """A run's score, and its gain over the first run on the same resamples (None for the first).

    `only_this` and `only_first` count the examples that one of the two gets right alone; None for a
    regression.
    """

    run: str
    score: Interval
    gain: Interval | None
    only_this: int | None
    only_first: int | None


@dataclass(frozen=True)
class Difference:
    """A matrix whose effective change differs between the runs."""

    matrix: str
    changes: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    metric: str
    settings: tuple[Setting, ...]
    scores: tuple[RunScore, ...]
    differences: tuple[Difference, ...]
    sentences: tuple[str, ...]


def compare(runs: Sequence[RunRecord]) -> Comparison:
    """Compares finished runs with the first of them.

    Raises:
      InputError: fewer than two runs, or runs scored on different examples.
    """
    if len(runs) < 2:
        raise InputError(f"expected two run directories or more, found {len(runs)}")
    same_examples(runs)
    return Comparison(
        metric=runs[0].metric,
        settings=tuple(settings([run.config | {"resolved": run.resolved} for run in runs])),
        scores=tuple(_scores(runs)),
        differences=tuple(_differences(runs)),
        sentences=tuple(_sentences(runs)),
    )


def settings(configs: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """Resolved settings, by dotted name, that are not the same in all runs."""
    flat = [
        dict(
            _flat({name: config[name] for name in _SOURCES if name in config} | config["resolved"])
        )
        for config in configs
    ]
    names = sorted(set().union(*flat))
    rows = [Setting(name, tuple(one.get(name, _UNSET) for one in flat)) for name in names]
    return [row for row in rows if len(set(row.values)) > 1]


def write_page(found: Comparison, runs: Sequence[RunRecord], out: str | Path) -> Path:
    """Writes compare.html and its figures."""
    drawn = []
    for i, run in enumerate(runs, 1):
        grid = modules.grid(run.matrices, "change")
        if grid.values.size:
            title = f"Effective change, run {i}"
            caption = f"{visible(run.path, 80)}, in per cent of each matrix' norm."
            drawn.append(charts.module_map(grid, f"change_{i}", title, caption, percent=True))
    page = environment().get_template("compare.html")
    metric = NAMES.get(found.metric, found.metric)
    text = page.render(
        version=__version__, metric=metric, found=found, runs=runs, module_charts=drawn
    )
    return write(text, drawn, Path(out), "compare.html")


def _scores(runs: Sequence[RunRecord]) -> Iterator[RunScore]:
    first = runs[0]
    sign = -1.0 if first.metric in metrics.LOWER_IS_BETTER else 1.0
    draws = resampling.resampled_scores(first.metric, first.labels, [run.logits for run in runs])
    for i, run in enumerate(runs):
        gain = only_this = only_first = None
        if i:
            value = sign * (run.summary["score"] - first.summary["score"])
            gain = resampling.interval(value, sign * (draws[:, i] - draws[:, 0]))
            if not run.is_regression:
                right, right_first = run.predicted == run.labels, first.predicted == first.labels
                only_this = int((right & ~right_first).sum())
                only_first = int((right_first & ~right).sum())
        score = resampling.interval(run.summary["score"], draws[:, i])
        yield RunScore(str(run.path), score, gain, only_this, only_first)


def _changes(runs: Sequence[RunRecord]) -> tuple[list[dict], np.ndarray]:
    """Matrices that all runs have, and their effective changes (runs, matrices)."""
    by_path = [{m["path"]: m for m in run.matrices} for run in runs]
    shared = [m for m in runs[0].matrices if all(m["path"] in own for own in by_path)]
    return shared, np.array([[own[m["path"]]["change"] for m in shared] for own in by_path])


def _differences(runs: Sequence[RunRecord]) -> list[Difference]:
    matrices, changes = _changes(runs)
    if not matrices:
        return []
    order = np.argsort(-np.ptp(changes, axis=0), kind="stable")[:_MOST]
    return [Difference(modules.name_of(matrices[i]), tuple(changes[:, i].tolist())) for i in order]


def _sentences(runs: Sequence[RunRecord]) -> Iterator[str]:
    matrices, changes = _changes(runs)
    if len(matrices) < 2:
        yield "The runs have no matrices in common: their models differ."
        return
    for i in range(1, len(runs)):
        if not changes[0].any():
            yield f"run 1 changed no matrix, run {i + 1} {'some' if changes[i].any() else 'none'}."
            continue
        ratio = changes[i].mean() / changes[0].mean()
        alike = metrics.correlation(metrics.ranks(changes[0]), metrics.ranks(changes[i]))
        yield (
            f"run {i + 1} changed its matrices {ratio:.2f} times as much as run 1 on average; "
            f"rank correlation of the two maps {alike:.2f}."
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(item, ensure_ascii=False, default=str)
