"""The fast metrics are the metrics; the intervals cover what they should."""

import numpy as np
import pytest

from blomix.evaluation import evaluate, resampling


@pytest.mark.parametrize("metric", ["accuracy", "f1", "mcc"])
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_of_a_resample_are_those_of_the_evaluation(metric, classes):
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=80)
    logits = rng.normal(size=(80, classes)) + np.eye(classes)[labels]
    (found,) = resampling.resampled_scores(metric, labels, [logits], draws=1, seed=5)[:, 0]
    rows = np.random.default_rng(5).integers(80, size=80)
    assert found == pytest.approx(evaluate(metric, labels[rows], logits[rows])[metric], abs=1e-12)


def test_a_predictor_of_one_class_has_no_correlation_rather_than_a_division_by_zero():
    labels = np.array([0, 1] * 10)
    logits = np.tile([1.0, 0.0], (20, 1))
    assert not resampling.resampled_scores("mcc", labels, [logits], draws=20).any()


def test_the_interval_of_an_accuracy_is_the_binomial_one():
    labels = np.zeros(400, int)
    logits = np.where(np.arange(400)[:, None] < 300, [[1.0, 0.0]], [[0.0, 1.0]])
    draws = resampling.resampled_scores("accuracy", labels, [logits])
    found = resampling.interval(0.75, draws[:, 0])
    reach = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert found.low == pytest.approx(0.75 - reach, abs=0.01)
    assert found.high == pytest.approx(0.75 + reach, abs=0.01)


def test_runs_share_their_resamples_so_that_equal_runs_never_differ():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(2, size=50), rng.normal(size=(50, 2))
    draws = resampling.resampled_scores("accuracy", labels, [logits, 3 * logits])
    assert (draws[:, 0] == draws[:, 1]).all()


def test_seeds_add_to_the_interval():
    draws = np.array([[0.5, 0.9]] * 1000)
    one = resampling.mean_over_seeds(draws, [{0: 0}, {0: 1}])
    both = resampling.mean_over_seeds(draws, [{0: 0, 1: 1}])
    assert np.ptp(one, axis=0).max() == 0
    assert both.std() > 0.1


def test_methods_are_paired_by_the_seed_and_by_no_place():
    draws = np.tile([0.5, 0.7, 0.9], (1000, 1))
    first, shuffled = {3: 0, 4: 1, 5: 2}, {5: 2, 3: 0, 4: 1}
    means = resampling.mean_over_seeds(draws, [first, shuffled, {0: 0, 1: 1, 2: 2}])
    assert (means[:, 0] == means[:, 1]).all()
    assert (means[:, 0] != means[:, 2]).any()


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_a_few_seeds_cover_the_mean_of_all(seeds):
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        draws = np.tile(rng.normal(size=seeds), (1000, 1))  # many examples: seeds alone scatter
        means = resampling.mean_over_seeds(draws, [dict(enumerate(range(seeds)))])
        found = resampling.interval(0, means[:, 0])
        hits.append(found.low <= 0 <= found.high)
    assert 0.925 <= np.mean(hits) <= 0.985


@pytest.mark.parametrize("metric", ["mcc", "spearman"])
def test_the_spread_is_about_every_metric_of_the_kind(metric):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=60)
    logits = rng.normal(size=(60, 2)) + np.eye(2)[labels]
    logits = logits[:, 1:] if metric == "spearman" else logits
    values = evaluate(metric, labels, logits)
    found = resampling.spread(metric, labels, logits)
    assert set(found) == set(values) - {"score", "ece"}
    for name, interval in found.items():
        assert interval.low < interval.value < interval.high
        assert interval.value == values[name]
