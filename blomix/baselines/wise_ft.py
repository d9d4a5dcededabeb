"""WiSE-FT: a weight-space ensemble of the start and the finetuned model."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import numpy as np

from blomix.evaluation import metrics
from blomix.recipe.checks import whole
from blomix.recipe.folded import Folded
from blomix.recipe.job import Job, predict_logits
from blomix.recipe.phase import Fit


@dataclass(frozen=True)
class WiseFt(Folded):
    """Interpolates between the weights that training starts from and those it ends at.

        w = w_start + c (w_end - w_start)

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (arXiv:2109.01903),
    equation 1. The coefficient c is the one of `coefficients` values, evenly over [0, 1], with the
    best score on held-out examples: one model is trained on each fold's inner split, by the
    `search_` settings (not by those of the final one: an `epochs` that is changed wants its
    `search_epochs`), and scored on its outer split, whose predictions are put together; ties go to
    the larger c. The start needs a head that is worth keeping, which is the linear probe's;
    a fold's is fitted on its inner split.

    Cost: `folds` inner trainings and the finetuning, 1 gradient evaluation a step; the forward
    passes of the choice are not counted.

    Attributes (besides those of `Folded`):
      coefficients: how many are tried.
    """

    name: ClassVar[str] = "wise_ft"

    epochs: float = 3.0
    learning_rate: float = 1e-4
    head_init: str = "probe"
    folds: int = 5
    search_epochs: float = 3.0
    search_learning_rate: float = 1e-4
    coefficients: int = 11

    def __post_init__(self):
        super().__post_init__()
        whole(self, "coefficients")

    def fit(self, job: Job) -> Fit:
        starts = self.starts(job)
        found = yield self.plain_search(job, starts)
        coefficient = self.choose(job, list(zip(starts, found, strict=True)))
        del starts, found  # the folds' weights would stay in memory
        start = self.start(job)
        fitted = yield from self.train(job, self.step(job), start)
        params = interpolate(start, fitted.params, coefficient)
        return replace(fitted, params=params, facts={"coefficient": coefficient})

    def choose(self, job: Job, ends: list[tuple[Any, Any]]) -> float:
        """The coefficient with the best score on the outer splits; `ends`: each fold's start and
        the weights it ended at."""
        outer = [rows for _, rows in self.splits(job)]
        labels = job.arrays["labels"][np.concatenate(outer)]

        def score(coefficient: float) -> float:
            models = [interpolate(*pair, coefficient) for pair in ends]
            logits = [
                predict_logits(job.encoder, params, job.take(rows))
                for params, rows in zip(models, outer, strict=True)
            ]
            return metrics.height(job.train.metric, labels, np.concatenate(logits))

        return max(np.linspace(1, 0, self.coefficients).tolist(), key=score)


@jax.jit
def interpolate(start: Any, end: Any, coefficient: float) -> Any:
    return jax.tree.map(lambda a, b: a + coefficient * (b - a), start, end)
