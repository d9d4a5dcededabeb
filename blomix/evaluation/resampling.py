"""How far a score would move had other examples been scored: the bootstrap over scored examples.

Runs scored on the same examples see the same resamples, so that their differences are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blomix.evaluation import metrics

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and the percentile interval about it."""

    value: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        return self.high < 0


def resampled_scores(
    metric: str, labels: np.ndarray, logits: Sequence[np.ndarray], draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """(draws, runs): the metric of each run on `draws` resamples of the n examples."""
    score = _score_of(metric, logits[0].shape[1])
    predicted = [_predicted(metric, one) for one in logits]
    rng = np.random.default_rng(seed)
    n = len(labels)
    scores = np.empty((draws, len(predicted)))
    for draw in scores:
        rows = rng.integers(n, size=n)
        draw[:] = [score(labels[rows], values[rows]) for values in predicted]
    return scores


def spread(metric: str, labels: np.ndarray, logits: np.ndarray) -> dict[str, Interval]:
    """The 95% interval of every metric of the kind that `metric` is of, the calibration error left
    out: a resample's is larger than its sample's."""
    names = metrics.REGRESSION if metric in metrics.REGRESSION else _FROM_COUNTS
    values = metrics.evaluate(metric, labels, logits)
    return {
        name: interval(values[name], resampled_scores(name, labels, [logits])[:, 0])
        for name in names
    }


def mean_over_seeds(scores: np.ndarray, groups: Sequence[Mapping[int, int]], seed: int = 0):
    """(draws, groups): the mean of each group's runs, which are drawn anew in every draw as well.

    What drawing g runs adds is multiplied by sqrt(g / (g - 1)) t / z, as a percentile interval of g
    values is in `blomix.evaluation.statistics`: two runs say little of the seeds.

    Args:
      scores: (draws, runs) on resampled examples.
      groups: of each method, the column of each seed's run. Methods of the same seeds share their
        draws, so that their differences are paired by the seed.
    """
    means = []
    for group in groups:
        seeds = sorted(group)
        columns = scores[:, [group[one] for one in seeds]]
        count, mean = len(seeds), columns.mean(1)
        if count > 1:
            rng = np.random.default_rng([seed, *seeds])
            chosen = rng.integers(count, size=(len(scores), count))
            wider = np.sqrt(count / (count - 1)) * student_over_normal(count - 1)
            mean += wider * (np.take_along_axis(columns, chosen, axis=1).mean(1) - mean)
        means.append(mean)
    return np.stack(means, axis=1)


def student_over_normal(freedom: float, level: float = LEVEL) -> float:
    """t / z: how much wider than the normal's an interval of so many degrees of freedom is."""
    from scipy.stats import norm, t

    tail = (1 + level) / 2
    return float(t.ppf(tail, freedom) / norm.ppf(tail))


def interval(value: float, draws: np.ndarray, level: float = LEVEL) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _predicted(metric: str, logits: np.ndarray) -> np.ndarray:
    if metric in metrics.REGRESSION:
        return logits.reshape(len(logits))
    return logits.argmax(1) if metric in _FROM_COUNTS else logits


def _score_of(metric: str, classes: int) -> Callable[[np.ndarray, np.ndarray], float]:
    if metric in metrics.REGRESSION:
        return metrics.REGRESSION[metric]
    if metric not in _FROM_COUNTS:
        return lambda labels, values: metrics.evaluate(metric, labels, values)[metric]
    from_counts = _FROM_COUNTS[metric]

    def score(labels, predicted):
        counts = np.bincount(labels * classes + predicted, minlength=classes**2)
        return from_counts(counts.reshape(classes, classes))

    return score


# The metrics below equal those of `evaluation.metrics`, but a thousand of them take no time.


def _accuracy(counts: np.ndarray) -> float:
    return counts.trace() / counts.sum()


def _f1(counts: np.ndarray) -> float:
    hits, total = counts.diagonal(), counts.sum(0) + counts.sum(1)
    each = 2 * hits / np.maximum(total, 1)
    return each[1] if len(each) == 2 else each[total > 0].mean()


def _mcc(counts: np.ndarray) -> float:
    """Gorodkin, "Comparing two K-category assignments by a K-category correlation", 2004."""
    counts = counts.astype(float)
    n, true, predicted = counts.sum(), counts.sum(1), counts.sum(0)
    spread = (n**2 - true @ true) * (n**2 - predicted @ predicted)
    return (n * counts.trace() - true @ predicted) / np.sqrt(spread) if spread > 0 else 0.0


_FROM_COUNTS = {"accuracy": _accuracy, "f1": _f1, "mcc": _mcc}
