"""The course of a run: losses, norms and rates by step, alpha over time, the folds' agreement."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix.evaluation import metrics
from blomix.report.reading import FINETUNE, SEARCH, RunRecord

if TYPE_CHECKING:
    from blomix.recipe.optimization import Rate

_EPOCH = re.compile(r"-(\d+)$")
_FEW = 5  # matrices of the lowest share that folds are compared by


@dataclass(frozen=True, eq=False)
class Series:
    """Values of one logged quantity: `values[lane]` at `steps[lane]`."""

    name: str
    steps: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]

    @property
    def last(self) -> int:
        return max(int(steps[-1]) for steps in self.steps)


@dataclass(frozen=True, eq=False)
class Alpha:
    """Shares in the search: `mean[lane]` over matrices at `steps`; `final` (lanes, matrices)."""

    steps: np.ndarray
    mean: np.ndarray
    final: np.ndarray
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Agreement:
    """Whether each fold chooses the same matrices.

    correlation: mean over pairs of folds of the rank correlation of the matrices' shares.
    common: mean number of matrices that two folds have in common among their `few` lowest.
    """

    folds: int
    correlation: float
    few: int
    common: float

    @property
    def words(self) -> str:
        judged = "agree" if self.correlation > 0.7 else "agree in part"
        if self.correlation < 0.3:
            judged = "do not agree"
        return (
            f"The {self.folds} folds {judged} on which matrices keep more of their pretrained "
            f"weights: mean rank correlation {self.correlation:.2f} (1 is full agreement, 0 none); "
            f"of the {self.few} matrices with the lowest share, two folds have {self.common:.1f} "
            "in common on average."
        )


def series(records: Sequence[dict[str, Any]], name: str, search: bool) -> Series | None:
    """The logged quantity `name` of the search, or of the finetuning; None without it."""
    phase = SEARCH if search else FINETUNE
    lanes: dict[int, tuple[list, list]] = {}
    for record in records:
        if record.get(name) is None or not record["phase"].startswith(phase):
            continue
        steps, values = lanes.setdefault(record["lane"], ([], []))
        steps.append(first_step(record["phase"]) + record["step"] + 1)
        values.append(record[name])
    if not lanes:
        return None
    steps, values = zip(*(lanes[lane] for lane in sorted(lanes)), strict=True)
    return Series(name, tuple(map(np.array, steps)), tuple(np.array(v, float) for v in values))


def smooth(values: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Centred moving mean over `share` of the steps; the ends use what there is."""
    width = max(1, round(share * len(values)))
    total = np.convolve(values, np.ones(width), mode="same")
    return total / np.convolve(np.ones(len(values)), np.ones(width), mode="same")


def alpha(run: RunRecord) -> Alpha | None:
    """None where the run searched no alpha."""
    lanes: dict[int, list] = {}
    for line in run.history:
        lanes.setdefault(line["lane"], []).append(line)
    if not lanes:
        return None
    length = min(map(len, lanes.values()))
    shares = np.array([[line["shares"] for line in lanes[lane][:length]] for lane in sorted(lanes)])
    steps = np.array([line["step"] + 1 for line in next(iter(lanes.values()))[:length]])
    return Alpha(steps, shares.mean(2), shares[:, -1], tuple(run.searched))


def agreement(found: Alpha) -> Agreement | None:
    """None with one fold or one matrix, where there is nothing to agree on."""
    folds, matrices = found.final.shape
    if folds < 2 or matrices < 2:
        return None
    ranks = [metrics.ranks(shares) for shares in found.final]
    few = min(_FEW, matrices)
    lowest = [set(np.argsort(shares, kind="stable")[:few].tolist()) for shares in found.final]
    pairs = list(combinations(range(folds), 2))
    return Agreement(
        folds=folds,
        correlation=float(np.mean([metrics.correlation(ranks[i], ranks[j]) for i, j in pairs])),
        few=few,
        common=float(np.mean([len(lowest[i] & lowest[j]) for i, j in pairs])),
    )


def learning_rates(run: RunRecord) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(steps, rate) of each phase's schedule, as the recipe defines it."""
    from blomix.recipe.optimization import warmup_cosine, warmup_linear

    recipe = run.summary["recipe"]
    curves = {}
    inner = series(run.metrics, "inner_loss", search=True)
    if inner is not None and "search_learning_rate" in recipe:
        steps = inner.last * recipe["unroll"]
        rate = warmup_linear(recipe["search_learning_rate"], steps, recipe["warmup"])
        curves["search, task weights"] = _curve(rate, steps)
        rate = warmup_cosine(recipe["outer_learning_rate"], inner.last, recipe["warmup"])
        curves["search, alpha"] = _curve(rate, inner.last)
    trained = series(run.metrics, "loss", search=False)
    if trained is not None and "learning_rate" in recipe:
        steps = trained.last
        if recipe.get("patience") is not None:  # it may have stopped on the way
            per_epoch = math.ceil(run.summary["train_size"] / recipe["batch_size"])
            steps = max(steps, round(recipe["epochs"] * per_epoch))
        rate = warmup_linear(recipe["learning_rate"], steps, recipe["warmup"])
        curves["finetuning"] = _curve(rate, trained.last)
    return curves


def _curve(rate: "Rate", steps: int) -> tuple[np.ndarray, np.ndarray]:
    from blomix.recipe.optimization import rate_at

    counts = np.arange(steps)
    return counts + 1, np.asarray(rate_at(counts, *rate))


def first_step(phase: str) -> int:
    """Phases after the first of an epoch-wise training carry their first step: finetune-19."""
    match = _EPOCH.search(phase)
    return int(match.group(1)) if match else 0


def phase_of(phase: str) -> str:
    """The phase that an epoch is of: finetune of finetune-19."""
    return _EPOCH.sub("", phase)
