"""What scores over tasks and seeds say: summaries, intervals, paired comparisons.

A result is a mapping with the keys task, n, method, seed, metric, score, majority_score, steps,
gradient_evaluations and seconds. A run that failed is never dropped: one that scores no better
than the majority class counts as failed, and so does one without a finite score (it diverged or
broke), with the majority class's score, which is what its user would fall back to.

Source of the interquartile mean and its stratified intervals: Agarwal et al., "Deep Reinforcement
Learning at the Edge of the Statistical Precipice", NeurIPS 2021, section 4.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blomix.errors import InputError

Result = Mapping[str, Any]
Interval = tuple[float, float]

RESAMPLES = 9999
PERMUTATIONS = 2**16
_NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True)
class Summary:
    """Scores of one method; sd has ddof 1 and is nan for a single run."""

    runs: int
    mean: float
    sd: float
    median: float
    best: float
    failed: int
    gradient_evaluations: float
    gain_per_kilogradient: float


@dataclass(frozen=True)
class Comparison:
    """A method minus its reference on the same (task, n, seed): mean over tasks of mean gains.

    p is two-sided; `p_holm` is corrected for all comparisons made together. `unpaired` counts the
    runs of either that have no partner, which are left out. `sd_ratio` is the method's spread over
    the reference's with its interval, see `spread_ratio`.
    """

    method: str
    against: str
    pairs: int
    unpaired: int
    gain: float
    low: float
    high: float
    p: float
    p_holm: float
    sd_ratio: float
    sd_low: float
    sd_high: float


def score_of(result: Result) -> float:
    """The score; the majority class's where there is no finite score."""
    score = result.get("score")
    if score is None or not math.isfinite(score):
        score = result["majority_score"]
    return float(score)


def failed(result: Result) -> bool:
    """No better than the majority class (or the mean target)."""
    return score_of(result) <= result["majority_score"]


def gain_per_kilogradient(result: Result) -> float:
    """Score above the majority class's, per 1000 gradient evaluations; nan where there are none."""
    gain = score_of(result) - result["majority_score"]
    gradients = result["gradient_evaluations"]
    return 1000 * gain / gradients if gradients else math.nan


def summarize(results: Sequence[Result]) -> Summary:
    """Raises InputError where there are no results."""
    if not results:
        raise InputError("expected at least one result to summarise, found none")
    scores = np.array([score_of(result) for result in results])
    return Summary(
        runs=len(scores),
        mean=float(scores.mean()),
        sd=float(scores.std(ddof=1)) if len(scores) > 1 else math.nan,
        median=float(np.median(scores)),
        best=float(scores.max()),
        failed=sum(failed(result) for result in results),
        gradient_evaluations=float(np.mean([r["gradient_evaluations"] for r in results])),
        gain_per_kilogradient=float(np.mean([gain_per_kilogradient(r) for r in results])),
    )


def interquartile_mean(scores: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean of the middle half: floor(n / 4) scores are left out at either end."""
    from scipy.stats import trim_mean

    return trim_mean(scores, 0.25, axis=axis)


def strata_of(results: Iterable[Result]) -> dict[tuple[str, int], list[Result]]:
    """Results by (task, n), in the order of their seeds."""
    strata: dict[tuple[str, int], list[Result]] = {}
    for result in sorted(results, key=lambda r: (r["task"], r["n"], r["seed"])):
        strata.setdefault((result["task"], result["n"]), []).append(result)
    return strata


def interquartile_interval(
    results: Iterable[Result], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, Interval]:
    """(interquartile mean over all tasks and seeds, its stratified bootstrap interval).

    Seeds are drawn anew within each (task, n), so that every resample has every task. Percentile
    interval; nan where some stratum has a single run.
    """
    samples = [np.array([score_of(r) for r in runs]) for runs in strata_of(results).values()]
    if not samples:
        raise InputError("expected at least one result for an interval, found none")

    def statistic(*drawn, axis):
        return interquartile_mean(np.concatenate(drawn, axis=axis), axis=axis)

    return float(statistic(*samples, axis=0)), _bootstrap(samples, statistic, confidence, seed)


def compare(
    results: Sequence[Result],
    methods: Sequence[str],
    against: str,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """Each method against one reference, paired by (task, n, seed), p-values corrected by Holm.

    The gain's interval is a paired bootstrap, stratified by (task, n); p is from the sign-flip
    permutation test of the same statistic, exact up to 16 pairs.

    Raises InputError where a method shares no (task, n, seed) with the reference.
    """
    found = [_compare(results, method, against, confidence, seed) for method in methods]
    corrected = holm([comparison["p"] for comparison in found])
    return [Comparison(**one, p_holm=p) for one, p in zip(found, corrected, strict=True)]


def spread_ratio(
    strata: Sequence[np.ndarray], *, confidence: float = 0.95
) -> tuple[float, Interval]:
    """(sd of one method over another's, its interval): the geometric mean over strata.

    strata: (2, runs) each, scores of both methods in paired runs. The interval is the jackknife's,
    of the logarithm and with pairs left out (Miller, "Jackknifing variances", Ann. Math. Statist.
    39, 1968), which unlike that of an F ratio needs no normal scores. nan where a stratum has fewer
    than three pairs, or a method no spread with one of them left out.
    """
    from scipy.stats import t

    centre, variance, freedom = 0.0, 0.0, 0
    for pairs in strata:
        n = pairs.shape[1]
        if n < 3:
            return math.nan, _NO_INTERVAL
        kept = np.stack([np.delete(pairs, i, axis=1) for i in range(n)])
        if not np.ptp(kept, axis=2).all():  # not sd: rounding makes that of equal scores 1e-17
            return math.nan, _NO_INTERVAL
        spreads = kept.std(axis=2, ddof=1)
        left_out = np.log(spreads[:, 0] / spreads[:, 1])
        ours, theirs = pairs.std(axis=1, ddof=1)
        centre += math.log(ours / theirs) / len(strata)
        variance += (n - 1) * left_out.var() / len(strata) ** 2
        freedom += n - 1
    reach = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return math.exp(centre), (math.exp(centre - reach), math.exp(centre + reach))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for m comparisons: max over j <= i of min(1, (m - j) p_(j)), j from 0.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.
    """
    values = np.asarray(p, float)
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return corrected.tolist()


def sign_flip_p(gains: Sequence[np.ndarray], seed: int = 0) -> float:
    """Two-sided p of the mean over strata of mean gains, were every gain's sign a fair coin."""
    from scipy.stats import permutation_test

    flat = np.concatenate(gains)
    weights = np.concatenate([np.full(len(g), 1 / (len(g) * len(gains))) for g in gains])
    if len(flat) == 1:
        return 1.0  # either sign is as likely; scipy wants two
    if not flat.any():
        return 1.0
    test = permutation_test(
        (flat, np.zeros_like(flat)),
        lambda x, y, axis: np.sum((x - y) * weights, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=4096,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _compare(results, method: str, against: str, confidence: float, seed: int) -> dict[str, Any]:
    ours, theirs = _by_cell(results, method), _by_cell(results, against)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise InputError(
            f"no run of {method!r} has the task, n and seed of a run of {against!r}: "
            f"{len(ours)} and {len(theirs)} runs"
        )
    strata: dict[tuple, list[tuple[float, float]]] = {}
    for cell in shared:
        strata.setdefault(cell[:2], []).append((ours[cell], theirs[cell]))
    pairs = [np.array(values).T for values in strata.values()]
    gains = [own - other for own, other in pairs]

    def statistic(*drawn, axis):
        return np.mean([values.mean(axis=axis) for values in drawn], axis=0)

    low, high = _bootstrap(gains, statistic, confidence, seed)
    sd_ratio, (sd_low, sd_high) = spread_ratio(pairs, confidence=confidence)
    return {
        "method": method,
        "against": against,
        "pairs": len(shared),
        "unpaired": len(ours) + len(theirs) - 2 * len(shared),
        "gain": float(statistic(*gains, axis=0)),
        "low": low,
        "high": high,
        "p": sign_flip_p(gains, seed),
        "sd_ratio": sd_ratio,
        "sd_low": sd_low,
        "sd_high": sd_high,
    }


def _by_cell(results: Sequence[Result], method: str) -> dict[tuple, float]:
    scores: dict[tuple, float] = {}
    for result in results:
        if result["method"] == method:
            cell = (result["task"], result["n"], result["seed"])
            if cell in scores:
                raise InputError(f"two results of {method!r} for task, n, seed {cell}")
            scores[cell] = score_of(result)
    return scores


def _bootstrap(samples, statistic, confidence: float, seed: int) -> Interval:
    from scipy.stats import bootstrap

    if min(map(len, samples)) < 2:
        return _NO_INTERVAL
    interval = bootstrap(
        samples,
        statistic,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=1000,
        confidence_level=confidence,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
