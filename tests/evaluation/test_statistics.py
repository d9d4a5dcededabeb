"""Statistics against published worked examples and values computed by hand."""

import math

import numpy as np
import pytest

from blomix.errors import InputError
from blomix.evaluation import statistics
from blomix.evaluation.statistics import (
    compare,
    failed,
    holm,
    interquartile_interval,
    interquartile_mean,
    sign_flip_p,
    spread_ratio,
    summarize,
)


def test_summary_by_hand(runs):
    summary = summarize(runs([0.5, 0.6, 0.8, 0.9]))
    assert summary.runs == 4
    assert summary.mean == pytest.approx(0.7)
    assert summary.sd == pytest.approx(math.sqrt((0.04 + 0.01 + 0.01 + 0.04) / 3))
    assert (summary.median, summary.best) == (pytest.approx(0.7), 0.9)
    assert summary.failed == 1
    assert summary.gain_per_kilogradient == pytest.approx(2.0)
    assert math.isnan(summarize(runs([0.5])).sd)


@pytest.mark.parametrize("score", [None, math.nan, math.inf])
def test_a_broken_run_counts_as_the_majority_class(runs, score):
    broken, sound = runs([score, 0.8], majority=0.4)
    assert failed(broken)
    assert not failed(sound)
    summary = summarize([broken, sound])
    assert (summary.failed, summary.runs, summary.mean) == (1, 2, pytest.approx(0.6))


def test_a_probe_costs_no_gradients(runs):
    assert math.isnan(summarize(runs([0.9], gradients=0)).gain_per_kilogradient)


def test_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([7, 0, 1, 2, 3, 4, 5, 1e9])) == pytest.approx(3.5)
    assert interquartile_mean(np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 90])) == pytest.approx(4.5)


def test_holm_published_examples():
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    adjusted = holm([0.01, 0.02, 0.03, 0.04, 0.05])
    assert adjusted == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    # The worked example of the article "Holm-Bonferroni method" in Wikipedia, in its order.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_sign_flips_of_darwins_maize():
    # Fisher, The Design of Experiments (1935), section 21: of the 2^15 sums, 863 in either tail.
    maize = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    assert sign_flip_p([maize]) == pytest.approx(2 * 863 / 2**15)


def test_sign_flips_by_enumeration_over_unequal_strata():
    gains = [np.array([1.0, 2.0]), np.array([3.0])]
    # The statistic is (a + b) / 4 + c / 2; of the 8 signs, only all + and all - reach |2.25|.
    assert sign_flip_p(gains) == pytest.approx(2 / 8)
    assert sign_flip_p([np.array([2.0])]) == sign_flip_p([np.zeros(5)]) == 1.0


def test_bootstrap_of_two_values_by_hand(runs):
    # Resamples of {0, 1} have mean 0, 1/2, 1 with probability 1/4, 1/2, 1/4: a reach of 1/2, but
    # half the variance that is due, and the normal quantile in place of Student's.
    centre, (low, high) = interquartile_interval(runs([0.0, 1.0]))
    reach = 0.5 * math.sqrt(2) * 12.7062047 / 1.9599640
    assert (centre, low, high) == pytest.approx((0.5, 0.5 - reach, 0.5 + reach))


@pytest.mark.parametrize("tasks", [2, 6])
def test_intervals_of_five_seeds_cover_the_true_gain(runs, monkeypatch, tasks):
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    monkeypatch.setattr(statistics, "PERMUTATIONS", 2)  # the p-values are not looked at
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        results = []
        for task in range(tasks):  # tasks of other spread, seeds that a pair has in common
            plain = rng.normal(0.5, 0.02, 5)
            gains = rng.normal(0.01, 0.01 * (1 + task), 5)
            results += runs(plain, task=str(task)) + runs(plain + gains, task=str(task), method="b")
        [found] = compare(results, ["b"], "a")
        hits.append(found.low <= 0.01 <= found.high)
    assert 0.925 <= np.mean(hits) <= 0.98


def test_the_interquartile_mean_leaves_no_task_out(runs):
    # Trimmed over all six runs, only the middle task would be left.
    scores = runs([0.1, 0.2, 0.3], task="low") + runs([0.5, 0.5, 0.5], task="middle")
    higher = scores + runs([0.8, 0.9, 1.0], task="high")
    assert interquartile_interval(scores)[0] == pytest.approx((0.2 + 0.5) / 2)
    assert interquartile_interval(higher)[0] == pytest.approx((0.2 + 0.5 + 0.9) / 3)


def test_bootstrap_is_stratified_by_task(runs):
    # Far apart between tasks and equal within them: only an unstratified bootstrap would scatter.
    scores = runs([0.1] * 4, task="hard") + runs([0.9] * 4, task="easy")
    centre, (low, high) = interquartile_interval(scores)
    assert [centre, low, high] == pytest.approx([0.5, 0.5, 0.5])


def test_bootstrap_agrees_with_normal_theory(runs):
    rng = np.random.default_rng(0)
    plain, ours = rng.normal(0.6, 0.1, 300), rng.normal(0.65, 0.1, 300)
    results = runs(plain, method="plain") + runs(ours, method="ours")
    [found] = compare(results, ["ours"], "plain")
    gains = ours - plain
    reach = 1.96 * gains.std(ddof=1) / math.sqrt(300)
    assert found.gain == pytest.approx(gains.mean())
    assert found.low == pytest.approx(gains.mean() - reach, abs=0.05 * reach)
    assert found.high == pytest.approx(gains.mean() + reach, abs=0.05 * reach)


def test_comparison_is_paired_and_weighs_tasks_equally(runs):
    plain = runs([0.50, 0.80, 0.60], method="plain", task="x") + runs(
        [0.1, 0.2], method="plain", task="y"
    )
    ours = runs([0.51, 0.81, 0.61], method="ours", task="x") + runs(
        [0.4, 0.5], method="ours", task="y"
    )
    ours += runs([0.9], method="ours", task="z")  # no partner
    [found] = compare(plain + ours, ["ours"], "plain")
    assert found.gain == pytest.approx((0.01 + 0.3) / 2)
    assert [found.low, found.high] == pytest.approx([found.gain, found.gain])
    assert (found.pairs, found.unpaired, found.strata, found.above) == (5, 1, 2, 2)
    assert found.p == pytest.approx(2 / 2**5)


def test_comparisons_are_corrected_together(runs):
    results = runs([0.5] * 6, method="plain")
    results += runs(np.array([0.6, 0.6, 0.6, 0.6, 0.6, 0.6]), method="good")
    results += runs(np.array([0.4, 0.6, 0.4, 0.6, 0.4, 0.6]), method="null")
    good, null = compare(results, ["good", "null"], "plain")
    assert (good.p, good.p_holm) == (pytest.approx(2 / 64), pytest.approx(4 / 64))
    assert null.p_holm == null.p == 1.0
    assert null.low < 0 < null.high


def test_intervals_need_two_seeds_and_comparisons_a_partner(runs):
    assert np.isnan(interquartile_interval(runs([0.7]))[1]).all()
    with pytest.raises(InputError, match="has the task, n and seed"):
        compare(runs([0.7], method="a") + runs([0.7], method="b", n=300), ["a"], "b")
    with pytest.raises(InputError, match="two results of 'a'"):
        compare(runs([0.7]) + runs([0.8]) + runs([0.7], method="b"), ["a"], "b")
    with pytest.raises(InputError, match="at least one"):
        summarize([])


def test_spread_ratio_of_scaled_deviations_is_their_scale():
    scores = np.array([0.1, 0.4, 0.2, 0.9])
    ratio, interval = spread_ratio([np.array([0.5 * scores + 3, scores])])
    assert (ratio, *interval) == pytest.approx((0.5, 0.5, 0.5))
    # Strata count alike, whatever the scale of their scores.
    halved, doubled = np.array([0.5 * scores, scores]), np.array([200 * scores, 100 * scores])
    assert spread_ratio([halved, doubled])[0] == pytest.approx(1)


def test_spread_ratio_by_hand():
    # Leaving one of three out leaves a distance: 1, 2, 1 against 1, 1, 2, whose logarithms differ
    # by 0, log 2, -log 2. Jackknife: variance = 2 / 3 of their squares' sum. Both sds are equal.
    ratio, (low, high) = spread_ratio([np.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]])])
    assert ratio == pytest.approx(1)
    reach = 4.3026527 * math.log(2) * math.sqrt(4 / 3)  # Student's t, 2 degrees of freedom, 97.5 %
    assert (low, high) == pytest.approx((math.exp(-reach), math.exp(reach)))


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_spread_ratio_covers_the_true_one(tails):
    rng = np.random.default_rng(0)
    scale = [1, 5] if tails == "heavy" else [1, 1]  # one run in ten strays far
    hits = []
    for _ in range(400):
        shape = (3, 2, 10)  # tasks, methods, seeds
        noise = rng.standard_normal(shape) * rng.choice(scale, shape, p=[0.9, 0.1])
        common = rng.standard_normal((3, 1, 10))
        scores = (noise + common) * np.array([[0.6], [1.0]])
        _, (low, high) = spread_ratio(list(scores))
        hits.append(low <= 0.6 <= high)
    assert 0.92 <= np.mean(hits) <= 0.985


@pytest.mark.parametrize(
    "pairs",
    [
        [[0.1, 0.2], [0.1, 0.3]],
        [[0.5, 0.5, 0.5], [0.1, 0.2, 0.3]],
        [[0, 0, 1], [1, 2, 4]],
        [[0.1, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.5]],  # numpy's sd of three times 0.1 is 1.7e-17
    ],
)
def test_spread_ratio_needs_three_pairs_and_some_spread(pairs):
    ratio, interval = spread_ratio([np.array(pairs)])
    assert all(map(math.isnan, (ratio, *interval)))


def test_a_comparison_tells_both_spreads(runs):
    scores = [0.5, 0.6, 0.8, 0.9]
    results = runs(scores, method="plain") + runs([0.7 + x / 4 for x in scores], method="steady")
    (found,) = compare(results, ["steady"], "plain")
    assert (found.sd_ratio, found.sd_low, found.sd_high) == pytest.approx((0.25, 0.25, 0.25))


def test_spreads_are_compared_where_both_methods_learned_something(runs):
    scores = [0.5, 0.6, 0.8, 0.9]
    plain = runs(scores, method="plain") + runs(scores, method="plain", task="hard")
    ours = runs([0.7 + x / 4 for x in scores]) + runs([0.5, 0.5, 0.49, 0.48], task="hard")
    (found,) = compare(plain + ours, ["a"], "plain")
    assert (found.sd_ratio, found.sd_strata, found.strata) == (pytest.approx(0.25), 1, 2)
    (nowhere,) = compare([r for r in plain + ours if r["task"] == "hard"], ["a"], "plain")
    assert math.isnan(nowhere.sd_ratio)
    assert nowhere.sd_strata == 0
