"""What the model gets right and wrong: confusion, calibration, its most confident errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from blomix.evaluation import expected_calibration_error
from blomix.report.reading import RunRecord
from blomix.report.text import visible

_CLASSES = 20  # that a confusion matrix shows; the rarest others are one
_BINS = 10
_LONGEST = 100  # characters of a label's name
_ERRORS = 10
_CLOSE = 0.02  # mean probability and accuracy this near are no miscalibration to speak of


@dataclass(frozen=True, eq=False)
class Confusion:
    """counts[true, predicted]; `rest` classes are merged into the last one."""

    names: tuple[str, ...]
    counts: np.ndarray
    rest: int


@dataclass(frozen=True, eq=False)
class Calibration:
    """By equal bins of the top class's probability: its mean, the accuracy, how many examples."""

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    error: float

    @property
    def words(self) -> str:
        total = self.counts.sum()
        gap = float((self.counts * (self.confidence - self.accuracy)).sum() / total)
        side = "too sure of itself" if gap > 0 else "less sure than it could be"
        side = "about as sure as it should be" if abs(gap) < _CLOSE else side
        return (
            f"Expected calibration error {self.error:.3f}: stated probabilities are off by "
            f"{self.error:.1%} on average. The model is {side}: mean probability of the chosen "
            f"label {float((self.counts * self.confidence).sum() / total):.1%}, right in "
            f"{float((self.counts * self.accuracy).sum() / total):.1%}."
        )


def confusion(run: RunRecord) -> Confusion:
    names = [visible(name, _LONGEST) for name in run.summary["labels"]]
    labels, predicted = run.labels, run.predicted
    rest = 0
    if len(names) > _CLASSES:
        common = np.argsort(-np.bincount(labels, minlength=len(names)), kind="stable")
        place = np.full(len(names), _CLASSES - 1)
        place[common[: _CLASSES - 1]] = np.arange(_CLASSES - 1)
        rest = len(names) - _CLASSES + 1
        names = [names[i] for i in common[: _CLASSES - 1]] + [f"{rest} other labels"]
        labels, predicted = place[labels], place[predicted]
    counts = np.bincount(labels * len(names) + predicted, minlength=len(names) ** 2)
    return Confusion(tuple(names), counts.reshape(len(names), -1), rest)


def calibration(run: RunRecord) -> Calibration:
    probabilities = run.probabilities
    confidence = probabilities.max(1)
    correct = run.predicted == run.labels
    place = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    filled = counts > 0
    return Calibration(
        confidence=np.bincount(place, confidence, _BINS)[filled] / counts[filled],
        accuracy=np.bincount(place, correct, _BINS)[filled] / counts[filled],
        counts=counts[filled],
        error=expected_calibration_error(run.labels, probabilities),
    )


def cross_entropy(run: RunRecord) -> float:
    """Mean negative log probability of the true labels."""
    from scipy.special import log_softmax

    return float(-log_softmax(run.logits, axis=1)[np.arange(len(run.labels)), run.labels].mean())


def confident_errors(run: RunRecord) -> list[dict[str, Any]]:
    """The wrong predictions of the highest probability; for a regression the largest errors."""
    if run.is_regression:
        error = np.abs(run.predicted - run.labels)
        order = np.argsort(-error, kind="stable")[:_ERRORS]
        return [_shown(run, i, f"off by {error[i]:.2f}") for i in order]
    confidence = run.probabilities.max(1)
    wrong = np.flatnonzero(run.predicted != run.labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:_ERRORS]
    return [_shown(run, i, f"{confidence[i]:.1%} sure") for i in order]


def _shown(run: RunRecord, row: int, how: str) -> dict[str, Any]:
    found = run.predictions[row]
    return {name: found[name] for name in ("text", "pair", "label", "predicted")} | {"how": how}
