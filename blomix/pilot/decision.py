"""The decision (go, collect more labels, use the simpler model): a pure function of the scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from blomix.evaluation.resampling import LEVEL, Interval, student_over_normal
from blomix.pilot.curve import Curve, fit

GO, COLLECT, SIMPLER = "go", "collect", "simpler"
# From the simplest; a method has to earn its place against every one before it.
METHODS = ("probe", "plain", "blomix")
NAMES = {
    "probe": "the frozen encoder with a regression on top",
    "plain": "plain finetuning",
    "blomix": "blomix",
}
_FEW = 5  # splits that leave an interval much wider than the scatter
WORTHWHILE = 0.01  # a gain below this is not worth a more complex model


@dataclass(frozen=True)
class Cell:
    """A trained and scored model: `n` training labels of split `split`, `tested` others scored."""

    method: str
    n: int
    split: int
    score: float
    majority: float
    tested: int
    seconds: float


@dataclass(frozen=True)
class Gain:
    """A method's mean gain over another (or over ignoring the text) on the same splits."""

    method: str
    over: str
    gain: Interval
    splits: int

    @property
    def shown(self) -> bool:
        return self.gain.above_zero and self.gain.value >= WORTHWHILE


@dataclass(frozen=True)
class Decision:
    """`kind` is "go", "collect" or "simpler"; `labels`: how many to have in all, with "collect"."""

    kind: str
    method: str
    headline: str
    reasons: tuple[str, ...]
    labels: Interval | None
    gains: tuple[Gain, ...]


def decide(
    cells: Sequence[Cell],
    target: float | None = None,
    examples: int | None = None,
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """What the trial's scores say.

    1. Nothing is shown to beat ignoring the text: collect more labels.
    2. Otherwise the simplest method wins that no more complex one is shown to beat.
    3. With a `target` that the winner does not reach: collect more labels, as many as its learning
       curve says. Where no model was trained on all labels that a split leaves, 1 and 3 ask for a
       larger budget in their place.
    4. Otherwise go, if the winner is blomix, or use the simpler model that won.

    Args:
      cells: the trained models; those with the most labels decide, the others give the curve.
      target: the score that is needed, if there is one.
      examples: labelled ones there are, a part of which each split scores; None: as many as the
        largest model was trained on.
      left_out: why a method was, but for the budget.
    """
    full = max(cell.n for cell in cells)
    at_full = [cell for cell in cells if cell.n == full]
    most = full if examples is None else examples - max(cell.tested for cell in at_full)
    scale = 1.0 if examples is None else examples / most  # labels in all, to those trained on
    methods = [m for m in METHODS if any(cell.method == m for cell in at_full)]
    over_majority = {m: gain(at_full, m, None) for m in methods}
    gains = [*over_majority.values()]
    for i, method in enumerate(methods):
        gains += [gain(at_full, method, simpler) for simpler in methods[:i]]
    learned = [m for m in methods if over_majority[m].gain.above_zero]
    if not learned and full < most:
        return _out_of_budget(full, most, methods[0], [], gains)
    if not learned:
        return _too_small(full, scale, over_majority, gains)
    winner, reasons = _winner(learned, gains)
    tried = {cell.method for cell in cells}
    reasons += [
        _unjudged(m, over_majority.get(m), m in tried, left_out.get(m))
        for m in METHODS
        if m not in learned
    ]
    mean = float(np.mean([cell.score for cell in at_full if cell.method == winner]))
    reasons.insert(0, f"With {full:,} training labels, {NAMES[winner]} scores {mean:.3f}.")
    curve = learning_curve(cells, winner)
    if target is not None and mean < target:
        reasons.append(f"That is {target - mean:.3f} short of the {target:.3f} that is needed.")
        if full < most:
            return _out_of_budget(full, most, winner, reasons, gains)
        return _short_of(target, full, scale, winner, curve, reasons, gains)
    if curve is not None:
        more = curve.gain(full, 2 * full)
        reasons.append(
            f"By its learning curve, twice as many labels would add {more.value:.3f} "
            f"(95% interval {more.low:.3f} to {more.high:.3f})."
        )
    if winner == "blomix":
        return Decision(GO, winner, "Go: finetune with blomix", tuple(reasons), None, tuple(gains))
    headline = f"Use the simpler model: {NAMES[winner]}"
    return Decision(SIMPLER, winner, headline, tuple(reasons), None, tuple(gains))


def gain(cells: Sequence[Cell], method: str, over: str | None) -> Gain:
    """Mean difference over splits, with the corrected resampled t interval.

    Splits overlap, which makes their plain variance too small; it is multiplied by
    `1/J + tested/trained` instead of `1/J` (Nadeau and Bengio, "Inference for the generalization
    error", Machine Learning 2003). With one split the interval is unbounded.
    """
    from scipy.stats import t

    ours = {cell.split: cell for cell in cells if cell.method == method}
    theirs = {
        cell.split: cell.majority if over is None else cell.score
        for cell in cells
        if cell.method == (over or method)
    }
    shared = sorted(ours.keys() & theirs.keys())
    name = "ignoring the text" if over is None else over
    if not shared:
        return Gain(method, name, Interval(math.nan, -math.inf, math.inf), 0)
    differences = np.array([ours[split].score - theirs[split] for split in shared])
    mean, count = float(differences.mean()), len(shared)
    if count == 1:
        return Gain(method, name, Interval(mean, -math.inf, math.inf), 1)
    cell = ours[shared[0]]
    variance = differences.var(ddof=1) * (1 / count + cell.tested / cell.n)
    reach = float(t.ppf((1 + LEVEL) / 2, count - 1) * math.sqrt(variance))
    return Gain(method, name, Interval(mean, mean - reach, mean + reach), count)


def learning_curve(cells: Sequence[Cell], method: str) -> Curve | None:
    """The curve through one method's scores."""
    scores: dict[int, list[float]] = {}
    for cell in cells:
        if cell.method == method:
            scores.setdefault(cell.n, []).append(cell.score)
    return fit(scores)


def _winner(learned: Sequence[str], gains: Sequence[Gain]) -> tuple[str, list[str]]:
    """The simplest method that no more complex one is shown to beat, and why."""
    winner, reasons = learned[0], []
    for method in learned[1:]:
        found = next(g for g in gains if g.method == method and g.over == winner)
        words = (
            f"{NAMES[method]} against {NAMES[winner]}: {found.gain.value:+.3f} "
            f"(95% interval {found.gain.low:+.3f} to {found.gain.high:+.3f}, {found.splits} splits)"
        )
        words = words[0].upper() + words[1:]
        if found.shown:
            reasons.append(f"{words}: a gain.")
            winner = method
        elif found.gain.high < WORTHWHILE:
            reasons.append(f"{words}: no gain worth having.")
        else:
            reasons.append(
                f"{words}: no gain shown; one of up to {found.gain.high:.3f} is not excluded."
            )
    return winner, reasons


def _unjudged(method: str, found: Gain | None, tried: bool, left_out: str | None) -> str:
    """Why a method had no part in the choice."""
    if left_out is not None:
        return f"Left out was {NAMES[method]}: {left_out}."
    if not tried:
        return f"The budget did not reach {NAMES[method]}; a larger one does."
    if found is None or found.splits < 2:
        return (
            f"Too few splits of {NAMES[method]} fitted the budget to judge it; "
            "a larger one gives more."
        )
    return (
        f"Over ignoring the text {NAMES[method]} gains {found.gain.value:+.3f} (95% interval "
        f"{found.gain.low:+.3f} to {found.gain.high:+.3f}, {found.splits} splits), which shows "
        "nothing; a larger budget gives more splits."
    )


def _out_of_budget(
    full: int, most: int, method: str, reasons: list[str], gains: list[Gain]
) -> Decision:
    reasons = [
        *reasons,
        f"The budget held models of {full:,} labels at most, of the {most:,} that a split leaves "
        "to train on: what all of them give is not known.",
    ]
    headline = "Give the trial a larger budget"
    return Decision(COLLECT, method, headline, tuple(reasons), None, tuple(gains))


def _too_small(full: int, scale: float, over: dict[str, Gain], gains: list[Gain]) -> Decision:
    """Labels until the best method's gain would stand clear of its own scatter.

    Its standard error falls as 1 / sqrt(n): n (z error / gain)^2 with the normal's z, for Student's
    would ask for labels where a few more splits are what is missing. The gain is drawn from its own
    uncertainty, and taken to stay as it is, though more labels also raise it.
    """
    from scipy.stats import norm

    top = max(over.values(), key=lambda found: (found.splits > 1, found.gain.value))
    reach = top.gain.high - top.gain.value
    interval = f"95% interval {top.gain.low:+.3f} to {top.gain.high:+.3f}"
    reasons = [
        f"With {full:,} training labels no method was shown to be better than ignoring the text; "
        f"the best, {NAMES[top.method]}, is {top.gain.value:+.3f} from it "
        f"({interval if math.isfinite(reach) else 'no interval from one split'}).",
        "A model chosen from these scores would be chosen by chance.",
    ]
    if top.gain.value <= 0:
        reasons.append(
            "Not even on average did a method do better: more labels help only where the texts say "
            "something about them. Look first whether people agree on the labels."
        )
    headline = "Collect more labels, or give the trial a larger budget"
    if math.isfinite(reach):
        wider = student_over_normal(top.splits - 1)
        normal = reach / wider
        error = normal / norm.ppf((1 + LEVEL) / 2)
        draws = np.random.default_rng(0).normal(top.gain.value, error, 2000)
        needed = np.full_like(draws, np.inf)
        needed[draws > 0] = full * (normal / draws[draws > 0]) ** 2
        low, value, high = np.quantile(needed, [0.025, 0.5, 0.975], method="inverted_cdf")
        low = low if math.isfinite(low) else 0.0
        labels = Interval(*(scale * max(2.0 * full, float(x)) for x in (value, low, high)))
        headline = f"Collect more labels: {_count(labels)}"
        if top.splits < _FEW:
            headline += "; or give the trial a larger budget"
            reasons.append(
                f"The budget held {top.splits} splits, which make its interval "
                f"{wider:.1f} times as wide as many would."
            )
    else:
        reasons.append("The budget held one split, which shows nothing.")
        labels = Interval(scale * 2.0 * full, scale * 2.0 * full, math.inf)
    return Decision(COLLECT, top.method, headline, tuple(reasons), labels, tuple(gains))


def _short_of(
    target: float,
    full: int,
    scale: float,
    winner: str,
    curve: Curve | None,
    reasons: list[str],
    gains: list[Gain],
) -> Decision:
    labels = None
    headline = "Collect more labels; how many cannot be said from one size"
    if curve is not None:
        needed = curve.labels_for(target)
        labels = Interval(
            *(scale * max(full + 1.0, x) for x in (needed.value, needed.low, needed.high))
        )
        headline = f"Collect more labels: {_count(labels)}"
        if math.isinf(labels.value):
            headline = "More labels alone are not likely to reach the target"
            reasons.append(
                f"The learning curve levels off at about {np.median(curve.a):.3f}. Clearer labels, "
                "another encoder or a lower target would help more."
            )
    return Decision(COLLECT, winner, headline, tuple(reasons), labels, tuple(gains))


def _count(labels: Interval) -> str:
    def shown(n: float) -> str:
        # Two digits: the rest would be a pretence.
        return f"{float(f'{n:.2g}'):,.0f}"

    if math.isinf(labels.value):
        return f"at least {shown(labels.low)} in all, and perhaps far more"
    above = "without an upper bound" if math.isinf(labels.high) else f"to {shown(labels.high)}"
    return f"about {shown(labels.value)} in all (95% interval from {shown(labels.low)} {above})"
