"""Linear probe: a logistic (or ridge) regression on the frozen encoder's features."""

from typing import Any

import numpy as np

from blomix.data import Examples
from blomix.recipe.job import Job

PyTree = Any

STRENGTH = 0.01  # of the penalty, inverse: see experiments/LOG.md


def head_of(head_init: str, examples: Examples) -> str:
    """What "auto" is for these examples: of pairs "random", for how two texts relate is hardly to
    be read off the mean of both (experiments/LOG.md); else "probe"."""
    if head_init != "auto":
        return head_init
    return "probe" if examples.pairs is None else "random"


def start_params(
    job: Job, head_init: str, head_scale: float = 1.0, rows: np.ndarray | None = None
) -> PyTree:
    """The weights a method starts from: the pretrained ones, with the head `head_init` names.

    A probe is fitted on all examples, or on some `rows` alone. So is the scale of a new head for
    values, which gives their mean with their standard deviation times the random part: without it,
    values around 50 would be beyond what a hundred steps can reach. The probe of classes is
    multiplied by `head_scale`.
    """
    if head_of(head_init, job.train) == "random":
        if not job.encoder.regression or "head" not in job.encoder.new:
            return job.encoder.params
        values = job.train.targets if rows is None else job.train.targets[rows]
        kernel = job.encoder.params["head"]["kernel"]
        scale, mean = values.std() or 1.0, np.array([values.mean()])
        return job.encoder.with_head(job.encoder.params, kernel * scale, mean)
    weights, bias = fit_probe(job, rows)
    if not job.encoder.regression:
        weights, bias = head_scale * weights, head_scale * bias
    return job.encoder.with_head(job.encoder.params, weights, bias)


def fit_probe(
    job: Job, rows: np.ndarray | None = None, strength: float = STRENGTH
) -> tuple[np.ndarray, np.ndarray]:
    """Fits the head alone.

    Features are the input of the encoder's last linear layer, without dropout, standardised for the
    fit; the scaling is folded into the weights that are returned.

    Args:
      job: the training task.
      rows: those to fit; all if left out.
      strength: inverse of the L2 penalty (scikit-learn's `C`; `1 / alpha` of ridge).

    Returns:
      weights (hidden, num_labels) and bias (num_labels,), float32.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    rows = np.arange(len(job)) if rows is None else rows
    features, labels = job.features[rows], job.train.targets[rows]
    center, scale = features.mean(0), features.std(0) + 1e-6
    scaled = (features - center) / scale
    if job.encoder.regression:
        fit = Ridge(alpha=1 / strength).fit(scaled, labels)
        weights, bias = fit.coef_[:, None], np.array([fit.intercept_])
    elif len(np.unique(labels)) == 1:  # a tiny fold's: nothing to tell apart
        weights, bias = np.zeros((features.shape[1], job.encoder.num_labels)), 0.0
    else:
        fit = LogisticRegression(C=strength, max_iter=5000).fit(scaled, labels)
        weights, bias = _per_class(fit, job.encoder.num_labels)
    weights = weights / scale[:, None]
    bias = bias - center @ weights
    return weights.astype(np.float32), bias.astype(np.float32)


def _per_class(fit, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's coefficients as one column a class; of a class without examples it is all
    zeros, and the class as unlikely as the rarest of the others.

    For two classes scikit-learn keeps the difference of the two columns.
    """
    coefficients, intercepts = fit.coef_.T, fit.intercept_
    if len(fit.classes_) == 2:
        coefficients = np.concatenate([-coefficients, coefficients], 1) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weights = np.zeros((len(coefficients), num_labels))
    bias = np.full(num_labels, intercepts.min())
    weights[:, fit.classes_] = coefficients
    bias[fit.classes_] = intercepts
    return weights, bias
