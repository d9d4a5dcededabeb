"""Stratified draws from the seed: subsamples, hold-outs and folds.

Strata are the classes, or for a regression quantile bins of the target. Every draw is a function
of its arguments and the seed alone.
"""

import numpy as np

from blomix.data.examples import Examples
from blomix.errors import InputError

_SUBSAMPLE, _HOLDOUT, _FOLDS = 1, 2, 3  # keep the streams of one seed apart
_QUANTILE_BINS = 10
_ROWS_PER_BIN = 5


def subsample(examples: Examples, n: int, seed: int) -> Examples:
    """n rows in their old order, each stratum by its share (largest remainder, at least one row).

    Raises InputError where n is not within 1..len(examples).
    """
    if not 1 <= n <= len(examples):
        raise InputError(f"{examples.name}: {n} examples asked for, it has {len(examples)}")
    rng = np.random.default_rng([_SUBSAMPLE, seed])
    strata = _strata(examples)
    sizes = np.bincount(strata)
    return examples.select(_draw(strata, _allocate(sizes, n, sizes, rng), rng))


def holdout(examples: Examples, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows kept, rows held out); no class is held out whole, so training sees every class."""
    return _holdout(examples, fraction, np.random.default_rng([_HOLDOUT, seed]))


def folds(
    examples: Examples, k: int, seed: int, scheme: str = "partition", fraction: float = 0.2
) -> list[tuple[np.ndarray, np.ndarray]]:
    """k pairs (inner rows, outer rows).

    partition: every row is in the outer part of just one fold (k = 1: one hold-out of `fraction`).
    independent: k hold-outs of `fraction`, drawn independently, as the released code has it.

    Raises InputError where k < 1 or there are fewer rows than folds.
    """
    if scheme not in ("partition", "independent"):
        raise InputError(f"expected the fold scheme partition or independent, found {scheme!r}")
    if k < 1:
        raise InputError(f"expected at least one fold, found {k}")
    if len(examples) < max(k, 2):
        raise InputError(
            f"{examples.name}: {len(examples)} rows are fewer than {max(k, 2)} folds need; "
            f"give more rows or fewer folds"
        )
    if scheme == "independent" or k == 1:
        return [
            _holdout(examples, fraction, np.random.default_rng([_FOLDS, seed, fold]))
            for fold in range(k)
        ]
    rng = np.random.default_rng([_FOLDS, seed])
    strata = _strata(examples)
    shuffled = rng.permutation(len(strata))
    # Dealt like cards, stratum after stratum: counts per fold differ by at most one in each.
    dealt = shuffled[np.argsort(strata[shuffled], kind="stable")]
    fold_of = np.empty(len(strata), np.int64)
    fold_of[dealt] = np.arange(len(strata)) % k
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(k)]


def _holdout(examples: Examples, fraction: float, rng) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < fraction < 1:
        raise InputError(f"expected a held-out fraction between 0 and 1, found {fraction}")
    strata = _strata(examples)
    sizes = np.bincount(strata)
    spare = np.maximum(sizes - 1, 0)
    wanted = max(1, round(fraction * len(examples)))
    if spare.sum() < wanted:
        raise InputError(
            f"{examples.name}: {len(examples)} rows are too few to hold {wanted} out and keep "
            f"every class in training; give more rows"
        )
    held = _draw(strata, _allocate(sizes, wanted, spare, rng), rng)
    return np.setdiff1d(np.arange(len(examples)), held), held


def _strata(examples: Examples) -> np.ndarray:
    """Stratum of each row: its class, its quantile bin, or one for all unlabelled rows."""
    n = len(examples)
    if examples.labels is None:
        return np.zeros(n, np.int64)
    if not examples.is_regression:
        return examples.labels
    bins = min(_QUANTILE_BINS, max(1, n // _ROWS_PER_BIN))
    strata = np.empty(n, np.int64)
    strata[np.argsort(examples.labels, kind="stable")] = np.arange(n) * bins // n
    return strata


def _allocate(sizes: np.ndarray, n: int, most: np.ndarray, rng) -> np.ndarray:
    """How many of n go to each stratum: its share by largest remainders, within 1..most.

    The lower bound of one holds where n has room for it. Of equal remainders the seed chooses: by
    their order, small classes at the end of the alphabet would never be drawn.
    """
    order = rng.spawn(1)[0].permutation(len(sizes))  # a stream of its own
    least = np.minimum(most, 1) if n >= np.count_nonzero(most) else np.zeros_like(most)
    share = n * sizes / sizes.sum()
    taken = np.clip(np.floor(share).astype(np.int64), least, most)
    while (missing := n - taken.sum()) != 0:
        # One row at a time to (or from) the stratum that is furthest from its share.
        gap = np.where(taken < most, share - taken, -np.inf)
        over = np.where(taken > least, taken - share, -np.inf)
        if missing > 0:
            taken[order[np.argmax(gap[order])]] += 1
        else:
            taken[order[np.argmax(over[order])]] -= 1
    return taken


def _draw(strata: np.ndarray, counts: np.ndarray, rng) -> np.ndarray:
    """Sorted rows: `counts[s]` of stratum s, without replacement."""
    shuffled = rng.permutation(len(strata))
    drawn = [shuffled[strata[shuffled] == stratum][:count] for stratum, count in enumerate(counts)]
    return np.sort(np.concatenate(drawn))
