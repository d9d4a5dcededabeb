"""Metrics against hand-computed values, and on the degenerate predictions few labels bring."""

import numpy as np
import pytest

from blomix.errors import InputError
from blomix.evaluation import evaluate, expected_calibration_error, majority
from blomix.evaluation.metrics import ranks


def logits_of(predictions, classes=2):
    return np.eye(classes)[np.asarray(predictions)] * 4


def test_binary_scores_by_hand():
    # 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
    labels = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    predictions = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    scores = evaluate("mcc", labels, logits_of(predictions))
    assert scores["accuracy"] == pytest.approx(0.7)
    assert scores["f1"] == pytest.approx(6 / 9)
    assert scores["mcc"] == pytest.approx((3 * 4 - 1 * 2) / np.sqrt(4 * 5 * 5 * 6))
    assert scores["score"] == scores["mcc"]


def test_macro_f1_is_over_the_classes_that_are_there():
    """Labelled or predicted, as scikit-learn has it: what is never wrong has 1."""
    scores = evaluate("f1", [0, 0, 1, 1], logits_of([0, 0, 1, 0], classes=3))
    assert scores["f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert evaluate("f1", [0, 0, 1], logits_of([0, 2, 1], classes=3))["f1"] == pytest.approx(
        (2 / 3 + 1 + 0) / 3
    )
    assert evaluate("f1", [1, 1], logits_of([1, 1], classes=3))["f1"] == 1


def test_correlations_by_hand():
    # Ranks 1 2 3 4 against 2 1 4 3: rho = 1 - 6 * 4 / (4 * 15) = 0.6.
    scores = evaluate("spearman", [1.0, 2.0, 3.0, 10.0], np.array([[0.2], [0.1], [9.0], [0.3]]))
    assert scores["spearman"] == pytest.approx(0.6)
    exact = evaluate("pearson", [1.0, 2.0, 4.0], np.array([-3.0, -5.0, -9.0]))
    assert exact["pearson"] == pytest.approx(-1.0)
    assert exact["mse"] == pytest.approx((16 + 49 + 169) / 3)


def test_calibration_error_by_hand():
    # Two rows at 0.9 (one right), two at 0.6 (both right): (|1 - 1.8| + |2 - 1.2|) / 4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    error = expected_calibration_error(np.array([0, 1, 0, 1]), probabilities, bins=10)
    assert error == pytest.approx(0.4)


@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 1, 1], [0, 0, 0]])
@pytest.mark.parametrize("constant", [0, 1])
def test_constant_classes_score_without_warnings(labels, constant):
    scores = evaluate("f1", labels, logits_of([constant] * 3))
    assert scores["mcc"] == 0.0
    assert scores["accuracy"] == pytest.approx(np.mean(np.array(labels) == constant))
    assert np.isfinite(list(scores.values())).all()


def test_constant_predictions_correlate_with_nothing():
    scores = evaluate("spearman", [1.0, 2.0, 3.0], np.full((3, 1), 0.1))
    assert scores["pearson"] == scores["spearman"] == 0.0


def test_majority_is_trainings_majority():
    assert majority("accuracy", [0, 0, 1], [1, 1, 0, 1]) == pytest.approx(0.25)
    # MRPC's validation split, all called paraphrases: 2 * 279 / (408 + 279).
    labels = np.repeat([1, 0], [279, 129])
    assert majority("f1", np.repeat([1, 0], [2474, 1194]), labels) == pytest.approx(558 / 687)
    assert majority("mcc", [1, 1, 0], [1, 0]) == 0.0
    # Of two classes out of three: F1 is a mean over classes, as the model's is.
    assert majority("f1", [0, 0, 1], [0, 1], num_labels=3) == pytest.approx(1 / 3)
    assert majority("ece", [1, 1, 0, 0, 0], [0, 1, 0, 1]) == pytest.approx(0.1)
    assert majority("spearman", [1.0, 2.0], [1.0, 5.0]) == 0.0
    assert majority("mse", [1.0, 3.0], [1.0, 5.0]) == pytest.approx(5.0)


def test_bad_calls_are_refused():
    with pytest.raises(InputError, match="one of the metrics"):
        evaluate("bleu", [0], np.zeros((1, 2)))
    with pytest.raises(InputError, match="found none"):
        evaluate("accuracy", [], np.zeros((0, 2)))
    with pytest.raises(ValueError, match="row 1 are not finite"):
        evaluate("accuracy", [0, 1], np.array([[0, 1], [np.nan, 0]]))
    with pytest.raises(ValueError, match="2 labels but 1 rows"):
        evaluate("accuracy", [0, 1], np.zeros((1, 2)))


@pytest.mark.parametrize("values", [[3.0, 1.0, 3.0, 2.0, 3.0], [1.0], [0.0, -0.0, 5.0], range(9)])
def test_ranks_are_those_of_scipy(values):
    from scipy.stats import rankdata

    np.testing.assert_array_equal(ranks(np.array(values)), rankdata(values))
