"""The verdict: how the runs scored, against plain finetuning and against ignoring the text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blomix.errors import InputError
from blomix.evaluation import metrics, resampling
from blomix.evaluation.resampling import Interval
from blomix.report.reading import RunRecord

PLAIN = "plain"
# What two methods should have in common; each has a learning rate and a length of its own.
_SHARED = (
    "model source",
    "model commit",
    "model pooling",
    "model dtype",
    "model dropout",
    "model train_embeddings",
    "max_length",
    "batch_size",
)
_LONGER = 1.25  # times the steps of plain finetuning
NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "ece": "expected calibration error",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "mse": "mean squared error",
}


@dataclass(frozen=True)
class MethodScore:
    """One method's runs: mean score and its interval, standard deviation over seeds (None for one),
    gain over the predictor that ignores the text, gain over plain finetuning (None without it)."""

    method: str
    seeds: tuple[int, ...]
    score: Interval
    sd: float | None
    over_majority: Interval
    over_plain: Interval | None
    gradients: float


@dataclass(frozen=True)
class Verdict:
    metric: str
    majority: float
    examples: int
    scores: tuple[MethodScore, ...]
    subject: MethodScore
    headline: str
    reasons: tuple[str, ...]


def judge(runs: Sequence[RunRecord], subject: RunRecord) -> Verdict:
    """Scores of all runs by method, and what they say of the subject's method.

    Raises:
      InputError: runs that were scored on different examples or by different metrics; runs of one
        method that differ in more than the seed, or not even in that.
    """
    same_examples(runs)
    seeds_of_one_recipe(runs)
    metric, labels = subject.metric, subject.labels
    sign = -1.0 if metric in metrics.LOWER_IS_BETTER else 1.0
    groups = _by_method(runs)
    draws = resampling.resampled_scores(metric, labels, [run.logits for run in runs])
    seeds = [{runs[i].summary["seed"]: i for i in rows} for rows in groups.values()]
    means = resampling.mean_over_seeds(draws, seeds)
    majority = subject.summary["majority_score"]
    majority_draws = _majority_draws(subject)
    values = {
        method: float(np.mean([runs[i].summary["score"] for i in rows]))
        for method, rows in groups.items()
    }
    scores = []
    for column, (method, rows) in enumerate(groups.items()):
        over_plain = None
        if PLAIN in groups and method != PLAIN:
            plain = list(groups).index(PLAIN)
            over_plain = resampling.interval(
                sign * (values[method] - values[PLAIN]), sign * (means[:, column] - means[:, plain])
            )
        own = [runs[i].summary for i in rows]
        scores.append(
            MethodScore(
                method=method,
                seeds=tuple(summary["seed"] for summary in own),
                score=resampling.interval(values[method], means[:, column]),
                sd=float(np.std([s["score"] for s in own], ddof=1)) if len(own) > 1 else None,
                over_majority=resampling.interval(
                    sign * (values[method] - majority), sign * (means[:, column] - majority_draws)
                ),
                over_plain=over_plain,
                gradients=float(np.mean([s["gradient_evaluations"] for s in own])),
            )
        )
    by_method = {score.method: score for score in scores}
    ours = by_method[subject.method]
    headline, reasons = words(ours, by_method.get(PLAIN), metric, majority, len(labels))
    if ours.over_plain is not None and ours.over_majority.above_zero:
        own, plain = ([runs[i] for i in groups[m]] for m in (subject.method, PLAIN))
        unequal = unequal_terms(own, plain)
        reasons += unequal
        if unequal and (ours.over_plain.above_zero or ours.over_plain.below_zero):
            headline += ", on unequal terms"
    return Verdict(metric, majority, len(labels), tuple(scores), ours, headline, tuple(reasons))


def words(
    ours: MethodScore, simple: MethodScore | None, metric: str, majority: float, n: int
) -> tuple[str, list[str]]:
    """A headline, and the sentences that bear it out; `simple` is plain finetuning, if it ran."""
    name = NAMES.get(metric, metric)
    score, gain = ours.score, ours.over_majority
    seeds = f", the mean of {len(ours.seeds)} seeds," if len(ours.seeds) > 1 else ""
    reasons = [
        f"{name[0].upper()}{name[1:]} {score.value:.3f}{seeds} on {n:,} scored examples "
        f"(95% interval {score.low:.3f} to {score.high:.3f}); ignoring the text gives "
        f"{majority:.3f}."
    ]
    if not gain.above_zero:
        headline = "Not shown to be better than ignoring the text"
        reasons.append(
            f"Over ignoring the text: {gain.value:+.3f} (95% interval {gain.low:+.3f} to "
            f"{gain.high:+.3f}), which does not exclude none."
        )
        reasons.append(
            f"It may have learned the task, but {n:,} scored examples do not show it: score it on "
            "more of them before it is used."
            if gain.value > 0
            else "Do not use this model: it does no better than ignoring the text. blomix pilot "
            "tells whether more labels are likely to help."
        )
        return headline, reasons
    plain = ours.over_plain
    if simple is None or plain is None:
        headline = "It learned the task"
        if ours.method != PLAIN:
            headline += "; whether plain finetuning would do as well is not known"
            reasons.append(
                "There is no plain run among those given. Finetune once more with "
                "--method plain on the same data, and give both runs to this report."
            )
        return headline, reasons
    reasons.append(
        f"Against plain finetuning: {plain.value:+.3f} (95% interval {plain.low:+.3f} to "
        f"{plain.high:+.3f}), over the same examples."
    )
    if plain.above_zero:
        headline = "Better than plain finetuning"
    elif plain.below_zero:
        headline = "Worse than plain finetuning"
        reasons.append("Plain finetuning is the better choice here.")
    else:
        headline = "No clear difference from plain finetuning"
        if ours.gradients > simple.gradients:
            reasons.append("Plain finetuning is cheaper, and nothing here speaks against it.")
        elif ours.gradients < simple.gradients:
            reasons.append("This method is cheaper, and nothing here speaks against it.")
    if min(len(ours.seeds), len(simple.seeds)) == 1:
        single = "This" if len(ours.seeds) == 1 else "Plain finetuning"
        reasons.append(
            f"{single} is one seed. The interval covers the choice of scored examples, not the "
            "scatter between seeds, which with few training examples is often the larger one."
        )
    return headline, reasons


def unequal_terms(own: Sequence[RunRecord], plain: Sequence[RunRecord]) -> list[str]:
    """What besides the method may explain a difference from plain finetuning."""
    found = []
    if {tuple(run.splits["train"]) for run in own} != {tuple(run.splits["train"]) for run in plain}:
        found.append(
            "The plain runs were trained on other examples, which alone may make a difference."
        )
    differences = plain[0].differences(own[0])
    if told := [differences[name] for name in _SHARED if name in differences]:
        found.append(
            f"This method has {', '.join(told)} of the plain runs, which alone may make a "
            "difference."
        )
    ours, theirs = (_mean(runs, "steps") for runs in (own, plain))
    cost, simple = (_mean(runs, "gradient_evaluations") for runs in (own, plain))
    took = f"This method took {ours:,.0f} steps, plain finetuning {theirs:,.0f}"
    if ours > _LONGER * theirs:
        epochs = plain[0].summary["recipe"]["epochs"] * ours / theirs
        found.append(
            f"{took}: part of a difference may come from longer training. A plain run with "
            f"--epochs {epochs:.0f} would tell."
        )
    elif theirs > _LONGER * ours:
        found.append(f"{took}: part of a difference may come from shorter training.")
    elif cost > _LONGER * simple:
        epochs = plain[0].summary["recipe"]["epochs"] * cost / simple
        found.append(
            f"{took}, but {cost:,.0f} gradient evaluations against {simple:,.0f}. A plain run with "
            f"--epochs {epochs:.0f} would tell what that many do."
        )
    return found


def _mean(runs: Sequence[RunRecord], name: str) -> float:
    return float(np.mean([run.summary[name] for run in runs]))


def same_examples(runs: Sequence[RunRecord]) -> None:
    """Refuses runs whose scores cannot be set side by side."""
    first = runs[0]
    for run in runs[1:]:
        if run.metric != first.metric:
            raise InputError(
                f"{run.path}: expected a run scored by {first.metric}, as {first.path} is, "
                f"found one scored by {run.metric}"
            )
        if run.splits["validation"] != first.splits["validation"]:
            raise InputError(
                f"{run.path}: expected a run scored on the same examples as {first.path}, found "
                "others; give both runs the same --validation file"
            )
        if run.summary["labels"] != first.summary["labels"]:
            raise InputError(
                f"{run.path}: expected the classes of {first.path} in their order, "
                f"{', '.join(first.summary['labels'])}, found {', '.join(run.summary['labels'])}; "
                "train both on rows of all classes, from a model that names none or the same"
            )


def seeds_of_one_recipe(runs: Sequence[RunRecord]) -> None:
    """Refuses runs of one method that are not its seeds, for their mean would be nobody's score."""
    for method, rows in _by_method(runs).items():
        first, *others = (runs[i] for i in rows)
        seen = {first.summary["seed"]}
        for run in others:
            found = list(first.differences(run).values())
            if run.summary["seed"] in seen:
                found = [f"seed {run.summary['seed']} again"]
            if found:
                raise InputError(
                    f"{run.path}: expected a run of {method} that differs from {first.path} in the "
                    f"seed, found {', '.join(found)}; give one of the two"
                )
            seen.add(run.summary["seed"])


def _by_method(runs: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Positions of each method's runs, in the order of their seeds."""
    groups: dict[str, list[int]] = {}
    for i in sorted(range(len(runs)), key=lambda i: runs[i].summary["seed"]):
        groups.setdefault(runs[i].method, []).append(i)
    return dict(sorted(groups.items(), key=lambda item: item[0] != PLAIN))


def _majority_draws(run: RunRecord) -> np.ndarray:
    """The predictor that ignores the text, on the same resamples."""
    metric, labels = run.metric, run.labels
    balance = run.splits["balance"]["train"]
    if metric in metrics.REGRESSION:
        constant = np.full((len(labels), 1), balance["mean"])
    else:
        counts = [balance.get(name, 0) for name in run.summary["labels"]]
        constant = np.tile(np.log(np.maximum(counts, 1e-9)), (len(labels), 1))
    return resampling.resampled_scores(metric, labels, [constant])[:, 0]
