"""Scores of predictions, and of the predictor that ignores its input.

Every metric is defined for constant predictions too: a correlation with a constant is 0.
"""

import numpy as np

from blomix.errors import InputError

CLASSIFICATION = ("accuracy", "f1", "mcc", "ece")
LOWER_IS_BETTER = ("mse", "ece")
_ECE_BINS = 15


def evaluate(metric: str, labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """All metrics of the kind that `metric` is of, and `score`, the value of `metric`.

    Classification: labels (n,) class indices, logits (n, classes); accuracy, F1 (of class 1 where
    there are two classes, else the mean over those that are labelled or predicted), Matthews
    correlation, and the expected calibration error. Regression: labels (n,) targets, logits (n,) or
    (n, 1) predictions; Pearson, Spearman, mean squared error.

    Raises InputError for an unknown metric or no rows, ValueError for shapes that do not fit or
    logits that are not finite.
    """
    if metric not in (*CLASSIFICATION, *REGRESSION):
        raise InputError(
            f"expected one of the metrics {', '.join((*CLASSIFICATION, *REGRESSION))}, "
            f"found {metric!r}"
        )
    labels, logits = np.asarray(labels), np.asarray(logits, np.float64)
    if len(labels) == 0:
        raise InputError("expected at least one labelled row to evaluate, found none")
    if len(labels) != len(logits):
        raise ValueError(f"{len(labels)} labels but {len(logits)} rows of logits")
    if not np.isfinite(logits).all():
        row = int(np.flatnonzero(~np.isfinite(logits.reshape(len(logits), -1)).all(axis=1))[0])
        raise ValueError(f"the logits of row {row} are not finite")
    if metric in REGRESSION:
        targets, predictions = labels.astype(np.float64), logits.reshape(len(labels))
        scores = {name: of(targets, predictions) for name, of in REGRESSION.items()}
    else:
        scores = _classification(labels, logits)
    return {"score": scores[metric], **scores}


def height(metric: str, labels: np.ndarray, logits: np.ndarray) -> float:
    """The score as something to choose the greatest of: negated where lower is better."""
    score = evaluate(metric, labels, logits)["score"]
    return -score if metric in LOWER_IS_BETTER else score


def majority(
    metric: str, train_labels: np.ndarray, labels: np.ndarray, num_labels: int = 0
) -> float:
    """What `metric` gives to training's most common class, or to training's mean target.

    num_labels: classes of the task, if neither of these may have the last.
    """
    train_labels = np.asarray(train_labels)
    if metric in REGRESSION:
        return evaluate(metric, labels, np.full(len(labels), train_labels.mean()))["score"]
    classes = max(train_labels.max() + 1, np.max(labels) + 1, num_labels)
    share = np.bincount(train_labels, minlength=classes) / len(train_labels)
    # Training's class shares as probabilities: the most common one wins, and the calibration
    # error is that of this constant prediction.
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(share), -1e3)
    return evaluate(metric, labels, np.tile(logits, (len(labels), 1)))["score"]


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = _ECE_BINS
) -> float:
    """sum_b (n_b / n) |accuracy_b - confidence_b| over equal bins of the top class's probability.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    # Bins are open on the left and closed on the right, as in the paper.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def _classification(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    from scipy.special import softmax
    from sklearn.metrics import accuracy_score, f1_score

    predictions = logits.argmax(axis=1)
    classes = np.arange(logits.shape[1])
    average = {"average": "binary"} if len(classes) == 2 else {"average": "macro"}
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "f1": float(
            f1_score(
                labels,
                predictions,
                zero_division=0.0,  # pyright: ignore[reportArgumentType]
                **average,  # pyright: ignore[reportArgumentType]
            )
        ),
        "mcc": _matthews(labels, predictions),
        "ece": expected_calibration_error(labels, softmax(logits, axis=1)),
    }


def _matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    # With one class on both sides sklearn warns about the shape of the confusion matrix.
    if len(np.unique(labels)) == 1 or len(np.unique(predictions)) == 1:
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks (n,) from 1, equal values at the mean of theirs (scipy.stats is slow to import)."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, and 0 with a constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


# The metrics of a regression: (targets (n,), predictions (n,)) -> value.
REGRESSION = {
    "pearson": correlation,
    "spearman": lambda labels, values: correlation(ranks(labels), ranks(values)),
    "mse": lambda labels, values: float(np.mean((labels - values) ** 2)),
}
