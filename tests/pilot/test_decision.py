"""The decision on scores whose truth is known."""

import math

import numpy as np
import pytest

from blomix.pilot.decision import COLLECT, GO, SIMPLER, Cell, decide, gain

LAW = {"probe": (0.80, 1.0), "plain": (0.80, 1.0), "blomix": (0.80, 1.0)}


def cells(law=LAW, sizes=(50, 100, 200), splits=8, noise=0.01, majority=0.5, seed=0):
    """Scores a - b / sqrt(n) plus a scatter that the methods share, and one of their own."""
    rng = np.random.default_rng(seed)
    made = []
    for split in range(splits):
        for n in sizes:
            shared = noise * rng.normal()
            for method, (a, b) in law.items():
                score = a - b / math.sqrt(n) + shared + 0.3 * noise * rng.normal()
                made.append(Cell(method, n, split, score, majority, n // 3, 1.0))
    return made


def test_equal_methods_mean_the_simplest():
    found = decide(cells())
    assert (found.kind, found.method) == (SIMPLER, "probe")
    assert found.labels is None


def test_a_frozen_encoder_that_is_better_is_used():
    found = decide(cells(LAW | {"probe": (0.9, 1.0)}))
    assert (found.kind, found.method) == (SIMPLER, "probe")
    assert any("no gain worth having" in reason for reason in found.reasons)


def test_plain_finetuning_is_a_simpler_model_too():
    found = decide(cells(LAW | {"probe": (0.7, 1.0)}))
    assert (found.kind, found.method) == (SIMPLER, "plain")


def test_a_real_gain_means_go():
    found = decide(cells(LAW | {"blomix": (0.9, 1.0)}))
    assert (found.kind, found.method) == (GO, "blomix")
    assert any("a gain" in reason for reason in found.reasons)


def test_a_gain_in_the_scatter_does_not_mean_go():
    found = decide(cells(LAW | {"blomix": (0.81, 1.0)}, noise=0.2, splits=4))
    assert found.kind != GO


def test_nothing_learned_means_more_labels_at_least_twice_as_many():
    law = {method: (0.5, 0.0) for method in LAW}
    found = decide(cells(law, noise=0.1))
    assert found.kind == COLLECT
    assert found.labels.low >= 400  # never fewer than twice what there is
    assert found.labels.value > 1000
    assert any("chosen by chance" in reason for reason in found.reasons)


@pytest.mark.parametrize("splits", [3, 20])
def test_the_labels_to_collect_do_not_depend_on_the_budget(splits):
    """A gain of 0.03 with an error of 0.033 at 75 labels: 75 (1.96 x 0.033 / 0.03)^2, whether three
    splits or twenty say so."""
    spread = 0.033 / math.sqrt(1 / splits + 25 / 75)
    gains = 0.03 + spread * _standard(splits)
    made = [Cell("probe", 75, i, 0.5 + gain, 0.5, 25, 1.0) for i, gain in enumerate(gains)]
    found = decide(made)
    assert found.kind == COLLECT
    assert found.labels.value == pytest.approx(75 * (1.96 * 0.033 / 0.03) ** 2, rel=0.1)
    assert ("larger budget" in found.headline) == (splits == 3)


def _standard(count):
    values = np.linspace(-1, 1, count)
    return values / values.std(ddof=1)


def test_scores_that_never_leave_the_majority_s_ask_for_more_labels_without_an_upper_bound():
    made = [Cell(m, 75, split, 0.48, 0.48, 25, 1.0) for m in LAW for split in range(3)]
    found = decide(made)
    assert found.kind == COLLECT
    assert found.headline == (
        "Collect more labels: at least 150 in all, and perhaps far more; "
        "or give the trial a larger budget"
    )
    assert any("Not even on average" in reason for reason in found.reasons)


def test_labels_to_collect_are_counted_with_those_that_a_split_scores():
    """Of 100 a split scores 25: what 150 training labels would do, 200 in all would."""
    made = [Cell("probe", 75, i, 0.5, 0.5, 25, 1.0) for i in range(3)]
    assert decide(made).labels.low == pytest.approx(150)
    assert decide(made, examples=100).labels.low == pytest.approx(200)
    made = cells()
    wanted = decide(made, target=0.75).labels.value
    assert decide(made, target=0.75, examples=266).labels.value == pytest.approx(1.33 * wanted)


@pytest.mark.parametrize(("score", "target"), [(0.5, None), (0.7, 0.9)])
def test_a_budget_that_held_part_of_the_labels_does_not_ask_for_more_of_them(score, target):
    made = [Cell("probe", 56, i, score + 0.01 * i, 0.5, 75, 1.0) for i in range(3)]
    found = decide(made, target, examples=300)
    assert (found.kind, found.labels) == (COLLECT, None)
    assert found.headline == "Give the trial a larger budget"
    assert "models of 56 labels at most, of the 225 that" in found.reasons[-1]


def test_one_split_decides_nothing():
    found = decide(cells(LAW | {"blomix": (0.95, 1.0)}, splits=1))
    assert found.kind == COLLECT
    assert math.isinf(found.labels.high)
    assert "larger budget" in found.headline
    assert not any("inf" in reason for reason in found.reasons)


def test_a_method_with_one_split_is_not_judged():
    found = decide([c for c in cells() if c.method != "blomix" or c.split == 0])
    assert (found.kind, found.method) == (SIMPLER, "probe")
    assert any("Too few splits of blomix" in reason for reason in found.reasons)
    small = decide([c for c in cells() if c.method != "blomix" or c.n < 200])
    assert any("Too few splits of blomix" in reason for reason in small.reasons)


def test_a_method_that_the_budget_did_not_reach_is_named():
    found = decide([cell for cell in cells() if cell.method != "blomix"])
    assert "The budget did not reach blomix; a larger one does." in found.reasons


def test_a_method_that_failed_is_told_as_such():
    rest = [cell for cell in cells() if cell.method != "blomix"]
    found = decide(rest, left_out={"blomix": "loss is nan"})
    assert "Left out was blomix: loss is nan." in found.reasons
    assert not any("budget" in reason for reason in found.reasons)


def test_a_method_that_two_splits_leave_open_is_told_of():
    made = cells(LAW | {"plain": (0.9, 1.0)}, noise=0.1)
    found = decide([c for c in made if c.method != "plain" or c.split < 2])
    assert found.method == "probe"
    assert any("plain finetuning gains" in reason for reason in found.reasons)


def test_a_target_within_reach_says_how_many_labels():
    found = decide(cells(LAW | {"blomix": (0.9, 1.0)}, noise=0.004), target=0.86)
    assert found.kind == COLLECT
    truth = (1.0 / 0.04) ** 2
    assert found.labels.low <= truth <= found.labels.high
    assert "about" in found.headline


def test_a_target_out_of_reach_is_called_so():
    found = decide(cells(noise=0.002), target=0.99)
    assert found.kind == COLLECT
    assert math.isinf(found.labels.value)
    assert "not likely to reach" in found.headline


def test_a_target_that_is_met_changes_nothing():
    assert decide(cells(), target=0.6) == decide(cells())


def test_the_interval_is_the_corrected_t():
    made = [cell for cell in cells(splits=5) if cell.n == 200]
    found = gain(made, "blomix", "probe")
    ours, theirs = (
        np.array([cell.score for cell in made if cell.method == method])
        for method in ("blomix", "probe")
    )
    difference = ours - theirs
    reach = 2.776 * math.sqrt(difference.var(ddof=1) * (1 / 5 + 66 / 200))
    assert found.gain.value == pytest.approx(difference.mean())
    assert found.gain.high - found.gain.value == pytest.approx(reach, rel=1e-3)
