"""Tables and figures from results, names that would break them included."""

import csv
import io

import numpy as np
import pytest

from blomix.evaluation import figures, tables

HOSTILE = '=cmd|"x"!A1 <b>$\\alpha$</b>\n| a_b'


@pytest.fixture
def results(runs):
    rng = np.random.default_rng(0)
    return [
        found
        for task in ("cola", "rte")
        for n in (100, 300)
        for method, height in (("plain", 0.6), (HOSTILE, 0.7), ("_probe", 0.65))
        for found in runs(
            rng.normal(height, 0.02, 5),
            task=task,
            n=n,
            method=method,
            gradients=0 if method == "_probe" else n,
        )
    ]


def test_method_rows_by_hand(runs):
    rows = tables.method_rows(runs([0.6, 0.8], task="x") + runs([0.5], task="x", method="b"))
    assert [row["method"] for row in rows] == ["a", "b"]
    assert rows[0]["mean"] == pytest.approx(0.7)
    assert (rows[1]["failed"], rows[1]["majority_score"]) == (1, 0.5)
    assert tables.markdown(rows[1:]).splitlines()[2] == (
        "| x | 100 | b | accuracy | 1 | 0.500 | – | 0.500 | 0.500 | 1 | 100 | 0.000 | 0.500 |"
    )


def test_overall_and_comparison_rows(results):
    overall = tables.overall_rows(results)
    assert [(row["n"], row["tasks"], row["runs"]) for row in overall] == [
        (n, 2, 10) for n in (100, 300) for _ in range(3)
    ]
    assert all(row["low"] <= row["interquartile_mean"] <= row["high"] for row in overall)
    compared = tables.comparison_rows(results, "plain")
    assert {row["method"] for row in compared} == {HOSTILE, "_probe"}
    assert all(row["gain"] > 0 and row["p_holm"] >= row["p"] for row in compared)


def test_the_share_is_the_mean_of_the_runs_that_learned_one(runs):
    learned = [
        run | {"facts": {"mean_share": share}}
        for run, share in zip(runs([0.6, 0.8]), (0.9, 0.7), strict=True)
    ]
    rows = tables.overall_rows(learned + runs([0.5], method="b"))
    assert rows[0]["share"] == pytest.approx(0.8)
    assert "–" in tables.markdown(rows[1:])
    assert np.isnan(rows[1]["share"])


def test_nothing_breaks_the_markdown(results):
    rows = tables.method_rows(results)
    lines = tables.markdown(rows).splitlines()
    assert len(lines) == len(rows) + 2
    for line in lines:
        bars = line.replace("\\|", "").count("|")
        assert bars == len(rows[0]) + 1
        assert "<b>" not in line.replace("\\<", "")


def test_csv_is_inert_and_complete(results):
    rows = tables.method_rows(results)
    read = list(csv.DictReader(io.StringIO(tables.csv_text(rows), newline="")))
    assert len(read) == len(rows)
    assert {row["method"] for row in read} == {"'" + HOSTILE, "plain", "_probe"}
    assert [float(row["mean"]) for row in read] == [row["mean"] for row in rows]
    assert tables.csv_text([]) == tables.markdown([]) == ""


@pytest.mark.parametrize(
    "draw", [figures.score_against_n, figures.spread, figures.gain_against_cost]
)
def test_figures_draw_without_warnings(runs, results, draw, tmp_path):
    for number, chosen in enumerate((results, runs([0.7]))):
        for suffix in ("png", "pdf"):
            path = tmp_path / f"{number}.{suffix}"
            draw(chosen).savefig(path)
            assert path.stat().st_size > 1000


def test_figure_shows_the_numbers(results):
    for task, axes in zip(("cola", "rte"), figures.score_against_n(results).axes, strict=False):
        assert axes.get_title() == task
        overall = tables.overall_rows([result for result in results if result["task"] == task])
        drawn = {c.get_label(): c[0].get_ydata().tolist() for c in axes.containers}
        plain = [row["interquartile_mean"] for row in overall if row["method"] == "plain"]
        assert drawn["plain"] == plain
    for n, axes in zip((100, 300), figures.gain_against_cost(results).axes, strict=True):
        assert axes.get_title() == f"n = {n}"
        assert [cost for ((cost, _),) in points(axes)] == [n, 0, n]


def test_gains_in_the_figure_are_those_of_the_table(runs):
    results = runs([0.6, 0.7]) + runs([0.4, 0.4], task="u") + runs([0.65, 0.75], method="b")
    results += runs([0.9], method="no partner", n=300)
    [first] = figures.gain_against_cost(results, "a").axes
    assert points(first) == [[[100, 0]], [[100, pytest.approx(0.05)]]]
    assert [text.get_text() for text in first.texts] == [" 1"]  # of two tasks
    first, second = figures.gain_against_cost(results).axes
    heights = [place[0][1] for place in points(first)[:2]]
    assert heights == pytest.approx([(0.15 - 0.1) / 2, 0.2])  # over the majority's 0.5
    assert points(second) == [[], [], [[100, pytest.approx(0.4)]]]


def points(axes):
    """What is drawn, a list of [x, y] a method."""
    return [line.get_xydata().tolist() for line in axes.lines]
