"""What a run's logs and scores advise: signs, each with its evidence and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blomix.report import course, predictions
from blomix.report.reading import RunRecord

_FEW_STEPS = 15  # outer steps; the noise of fewer batches looks like anything
_PART = 0.2  # of the steps at either end that are compared
_RISE = 1.1  # a loss this many times its lowest has risen
_GAP = 1.5  # an outer loss this many times the inner one is a gap
_STILL_FALLING = 0.8  # of the level in the part before: the loss has not settled
_ANCHORED = 0.98  # shares above this leave next to nothing to the pretrained weights
_CLIPPED = 0.5  # share of the steps


@dataclass(frozen=True)
class Sign:
    """One observation; `kind` is "warning", "hint" or "fine"."""

    kind: str
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class Ends:
    """A noisy curve in three numbers: its level before the last part, in it, and the lowest."""

    before: float
    last: float
    lowest: float

    @classmethod
    def of(cls, curve: course.Series) -> "Ends":
        length = min(map(len, curve.values))
        mean = np.mean([values[:length] for values in curve.values], axis=0)
        part = max(1, round(_PART * length))
        level = [chunk.mean() for chunk in np.array_split(mean, max(1, length // part))]
        return cls(float(level[-2] if len(level) > 1 else level[-1]), float(level[-1]), min(level))


def signs(run: RunRecord) -> list[Sign]:
    """Every sign that the run shows, the serious ones first."""
    found = [*_search(run), *_finetuning(run), *_alpha(run), *_scores(run), *_data(run)]
    if not any(sign.kind == "warning" for sign in found):
        found.append(Sign("fine", "Nothing in the logs or the data is a cause for concern."))
    return sorted(found, key=lambda sign: ("warning", "hint", "fine").index(sign.kind))


def split_gap(inner: Ends, outer: Ends) -> list[Sign]:
    """Signs of overfitting in the losses of the split that is trained on and of the other one."""
    if outer.last > _RISE * outer.lowest:
        return [
            Sign(
                "warning",
                f"The outer loss fell to {outer.lowest:.3f} and rose again to {outer.last:.3f}: "
                "the task weights overfit their split.",
                "Lower search_epochs or the learning rate, or add labelled examples.",
            )
        ]
    if outer.last > _GAP * inner.last:
        return [
            Sign(
                "hint",
                f"At the end of the search the loss is {inner.last:.3f} on the split that is "
                f"trained on and {outer.last:.3f} on the other: a gap, as with few examples.",
                "A larger outer learning rate lets alpha answer to it; more labels close it.",
            )
        ]
    return [
        Sign(
            "fine",
            f"Inner and outer loss end not far apart ({inner.last:.3f} and {outer.last:.3f}).",
        )
    ]


def settled(curve: Ends, what: str, setting: str) -> list[Sign]:
    """Whether a training loss was still falling when training ended."""
    if curve.last < _STILL_FALLING * curve.before:
        return [
            Sign(
                "hint",
                f"The {what} was still falling at the end ({curve.before:.3f} to {curve.last:.3f} "
                "in the last part).",
                f"Try more {setting}: few examples make few steps.",
            )
        ]
    return []


def _search(run: RunRecord) -> list[Sign]:
    inner = course.series(run.metrics, "inner_loss", search=True)
    outer = course.series(run.metrics, "outer_loss", search=True)
    if inner is None or outer is None:
        return []
    if inner.last < _FEW_STEPS:
        return [
            Sign(
                "hint",
                f"The search took {inner.last} outer steps: too few for its losses to tell much.",
                "Raise search_epochs.",
            )
        ]
    ends = Ends.of(inner), Ends.of(outer)
    return [
        *split_gap(*ends),
        *settled(ends[0], "search's inner loss", "search_epochs"),
        *_clipping(run, search=True, limit="search_clip"),
    ]


def _finetuning(run: RunRecord) -> list[Sign]:
    loss = course.series(run.metrics, "loss", search=False)
    if loss is None:
        return []
    return [
        *_scored_gap(run, Ends.of(loss)),
        *settled(Ends.of(loss), "finetuning loss", "epochs"),
        *_clipping(run, search=False, limit="clip"),
    ]


def _scored_gap(run: RunRecord, trained: Ends) -> list[Sign]:
    """The loss on the examples that are trained on at the end, beside that on the scored ones."""
    if run.is_regression:
        return []
    scored = predictions.cross_entropy(run)
    if scored <= _GAP * trained.last:
        return []
    return [
        Sign(
            "hint",
            f"At the end of training the loss is {trained.last:.3f} on the training examples and "
            f"{scored:.3f} on the scored ones: a gap, as with few examples.",
            "Fewer epochs or more labels narrow it.",
        )
    ]


def _clipping(run: RunRecord, search: bool, limit: str) -> list[Sign]:
    norms = course.series(run.metrics, "gradient_norm", search)
    if norms is None or limit not in run.summary["recipe"]:
        return []
    largest = run.summary["recipe"][limit]
    share = float(np.mean(np.concatenate(norms.values) > largest))
    if share <= _CLIPPED:
        return []
    return [
        Sign(
            "hint",
            f"{share:.0%} of the {'search' if search else 'finetuning'} steps had a gradient "
            f"larger than {limit} = {largest:g}, which was scaled down to it.",
            "Under Adam that evens out how much each batch counts; it hardly shortens the steps.",
        )
    ]


def _alpha(run: RunRecord) -> list[Sign]:
    found = course.alpha(run)
    if found is None:
        return []
    signs = []
    if found.final.min() > _ANCHORED:
        signs.append(
            Sign(
                "warning",
                f"Alpha stayed near 1 (no matrix of any fold has a mean share of the task weight "
                f"below {found.final.min():.3f}): the anchor to the pretrained weights is all but "
                "off.",
                "What this run gains comes from averaging folds and from more steps, not from "
                "learned shares. A larger outer_learning_rate or a lower alpha_init moves alpha; "
                "whether that helps has to be measured.",
            )
        )
    agreed = course.agreement(found)
    if agreed is not None and agreed.correlation < 0.3:
        signs.append(
            Sign(
                "hint",
                f"The folds choose different matrices (rank correlation {agreed.correlation:.2f}).",
                "Do not read much into the map of shares: another draw would give another one.",
            )
        )
    return signs


def _scores(run: RunRecord) -> list[Sign]:
    found = []
    if not run.is_regression:
        error = predictions.calibration(run).error
        if error > 0.1:
            found.append(
                Sign(
                    "hint",
                    f"Stated probabilities are off by {error:.1%} on average.",
                    "Do not take them at their word; scale the logits by a temperature fitted on "
                    "held-out examples.",
                )
            )
        missing = set(range(len(run.summary["labels"]))) - set(run.predicted.tolist())
        if missing:
            names = ", ".join(f"“{run.summary['labels'][i]}”" for i in sorted(missing)[:5])
            found.append(
                Sign(
                    "warning",
                    f"{len(missing)} of {len(run.summary['labels'])} labels are never predicted: "
                    f"{names}{' …' if len(missing) > 5 else ''}.",
                    "Add examples of them, or train longer.",
                )
            )
    if len(run.labels) < 100:
        found.append(
            Sign(
                "hint",
                f"Only {len(run.labels)} examples were scored.",
                "One example more or less right moves the score; see the interval.",
            )
        )
    return found


def _data(run: RunRecord) -> list[Sign]:
    found = []
    leaked = run.splits["leakage"]["rows"]
    if leaked:
        found.append(
            Sign(
                "warning",
                f"{leaked} scored examples have a text that is in the training data too.",
                "The score flatters the model by as much; take them out of one of the files.",
            )
        )
    conflicting = run.splits["duplicates"]["train"]["conflicting_texts"]
    if conflicting:
        found.append(
            Sign(
                "hint",
                f"{conflicting} training texts occur with more than one label.",
                "Decide on one label each: few examples cannot outvote a wrong one.",
            )
        )
    rarest = _rarest(run.splits["balance"]["train"], run.summary["labels"])
    if rarest and rarest[1] < 10:
        found.append(
            Sign(
                "hint",
                f"The rarest label, “{rarest[0]}”, has {rarest[1]} training examples.",
                "Labelling more of it is likely to help more than anything else.",
            )
        )
    return found


def _rarest(balance: dict, labels: Sequence[str]) -> tuple[str, int] | None:
    if not labels:
        return None
    name = min(labels, key=lambda label: balance.get(label, 0))
    return name, balance.get(name, 0)
