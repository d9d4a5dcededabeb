"""Training over folds, then on all the examples: what the recipe and its controls share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from blomix.data import folds
from blomix.recipe.checks import finite, one_of, positive, whole, within
from blomix.recipe.job import Job
from blomix.recipe.optimization import Rate, adamw, scheduled, warmup_linear
from blomix.recipe.phase import Phase
from blomix.recipe.training import Supervised, Training, decayed, plain_objective

PyTree = Any


@dataclass(frozen=True)
class Folded(Training):
    """A search phase with one lane a fold, before the finetuning phase.

    Attributes (besides those of `Training`, which govern the finetuning phase):
      folds: independent searches.
      partition: "kfold", each example in one outer split (1/folds of the data), or "independent",
        a fresh draw of `holdout` a fold.
      holdout: share of the outer split where the folds do not say it (one fold, or independent).
      head_rows: which examples the head of a fold is fitted on, where it starts as the probe:
        "inner", those of its inner split; or "all", so that the outer split judges a head that has
        seen its labels.
      search_epochs: passes over the inner split.
      search_learning_rate, search_clip: peak of the inner AdamW's rate, and its clipping.
    """

    # How these defaults were chosen: experiments/LOG.md, 26 November 2026.
    epochs: float = 9.0
    learning_rate: float = 5e-5
    head_init: str = "auto"
    folds: int = 3
    partition: str = "kfold"
    holdout: float = 0.2
    head_rows: str = "inner"
    search_epochs: float = 1.0
    search_learning_rate: float = 5e-5
    search_clip: float = 5.0

    def __post_init__(self):
        super().__post_init__()
        whole(self, "folds")
        positive(self, "search_epochs", "search_learning_rate", "search_clip")
        finite(self, "search_epochs")
        within(self, 0, 1, "holdout")
        one_of(self, "partition", "kfold", "independent")
        one_of(self, "head_rows", "inner", "all")

    @property
    def lanes(self) -> int:
        return max(self.folds, self.finishes)

    def splits(self, job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
        """(inner rows, outer rows) of each fold, a function of the job's seed."""
        scheme = "partition" if self.partition == "kfold" else "independent"
        return folds(job.train, self.folds, job.seed, scheme=scheme, fraction=self.holdout)

    def starts(self, job: Job) -> list[PyTree]:
        """What each fold's weights start from."""
        rows = [inner if self.head_rows == "inner" else None for inner, _ in self.splits(job)]
        return [self.start(job, own) for own in rows]

    def inner_steps(self, job: Job, splits: list) -> int:
        """Inner steps of a fold; the same for all, so that they can advance together."""
        rows = min(len(inner) for inner, _ in splits)
        return job.steps(self.search_epochs, self.batch_size, rows)

    def inner_rows(self, job: Job, lane: int, t: int, inner: np.ndarray) -> np.ndarray:
        """Rows of the inner batch `t` of a fold: one order for all methods with folds."""
        return job.rows(f"inner {lane}", t, self.batch_size, inner)

    def inner_rate(self, steps: int) -> Rate:
        return warmup_linear(self.search_learning_rate, steps, self.warmup)

    def inner_optimizer(self, job: Job, steps: int):
        """As `optimizer`, with the search's rate and clipping."""
        return scheduled(
            adamw(decayed(job), self.weight_decay, self.search_clip), self.inner_rate(steps)
        )

    def plain_search(self, job: Job, starts: list[PyTree]) -> Phase:
        """Plain training on the inner splits; a lane's result is its weights."""
        splits = self.splits(job)
        steps = self.inner_steps(job, splits)
        optimizer = self.inner_optimizer(job, steps)
        step = Supervised(plain_objective(job.loss), optimizer, accumulate=self.accumulate)
        return self.search_phase(
            job,
            step,
            lanes=[
                partial(step.init, start, job.key(f"search {lane}"))
                for lane, start in enumerate(starts)
            ],
            rows=lambda lane, t: self.inner_rows(job, lane, t, splits[lane][0]),
            steps=steps,
            cost=step.cost,
            result=lambda state: state.params,
        )

    def search_phase(
        self,
        job: Job,
        step: Callable,
        lanes: list[Callable[[], PyTree]],
        rows: Callable[[int, int], Any],
        steps: int,
        cost: float,
        result: Callable,
        updates: int = 1,
    ) -> Phase:
        """A phase named "search" whose batch is `rows(lane, t)`, a pytree of rows, as examples."""
        return Phase(
            name="search",
            step=step,
            lanes=lanes,
            shared=job.encoder.params,
            batch=lambda lane, t: jax.tree.map(job.take, rows(lane, t)),
            rows=lambda lane, t: [
                digest for part in jax.tree.leaves(rows(lane, t)) for digest in job.digests(part)
            ],
            steps=steps,
            updates=updates,
            gradients=cost,
            result=result,
        )
