"""Learning curve: how a score grows with the number of labels, and how sure that is.

The usual inverse power law, `score(n) = a - b n^-c` (Figueroa et al., "Predicting sample size
required for classification performance", BMC Medical Informatics 2012). A handful of sizes cannot
tell the exponent, so it is not fitted: each bootstrap draw takes one from `EXPONENTS`, and the
intervals carry what that leaves open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blomix.evaluation.resampling import LEVEL, Interval

EXPONENTS = (0.25, 1.0)
DRAWS = 500


@dataclass(frozen=True, eq=False)
class Curve:
    """Draws of the law's parameters, (draws,) each."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def at(self, n: float) -> Interval:
        """The score with n labels."""
        return _interval(self.a - self.b * n**-self.c)

    def gain(self, start: float, end: float) -> Interval:
        """What going from `start` labels to `end` adds."""
        return _interval(self.b * (start**-self.c - end**-self.c))

    def labels_for(self, target: float) -> Interval:
        """How many labels reach `target`; inf where a draw's ceiling is below it."""
        room = np.maximum(self.a - target, 0)
        with np.errstate(divide="ignore", over="ignore"):
            needed = np.where(self.b > 0, (self.b / room) ** (1 / self.c), np.inf)
        needed = np.where((self.b == 0) & (room > 0), 0.0, needed)
        return _interval(needed)


def fit(scores: Mapping[int, Sequence[float]], seed: int = 0) -> Curve | None:
    """The law through scores by number of labels; None with fewer than two sizes.

    Args:
      scores: for each n the scores of its splits.
      seed: draws the resamples of splits and the exponents.
    """
    from scipy.optimize import nnls

    if len(scores) < 2:
        return None
    rng = np.random.default_rng(seed)
    sizes = np.array(sorted(scores), float)
    parameters = np.empty((DRAWS, 3))
    for row in parameters:
        c = rng.uniform(*EXPONENTS)
        means = [rng.choice(scores[int(n)], len(scores[int(n)])).mean() for n in sizes]
        weights = np.sqrt([len(scores[int(n)]) for n in sizes])
        design = np.stack([np.ones_like(sizes), sizes**-c], axis=1) * weights[:, None]
        # 1 - score = (1 - a) + b n^-c with both at least 0: no metric of ours goes beyond 1.
        (short, b), _ = nnls(design, (1 - np.array(means)) * weights)
        row[:] = 1 - short, b, c
    return Curve(*parameters.T)


def _interval(draws: np.ndarray) -> Interval:
    # Draws may be infinite, and a quantile between two of them must not be computed.
    low, value, high = np.quantile(
        draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], method="inverted_cdf"
    )
    return Interval(float(value), float(low), float(high))
