"""A random alpha that stays as it is: mixing without learning how much."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import jax

from blomix.errors import InputError
from blomix.mixup import Mixup
from blomix.recipe.checks import within
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves
from blomix.recipe.phase import Fit
from blomix.recipe.recipe import mixed
from blomix.recipe.training import Training


@dataclass(frozen=True)
class RandomAlpha(Training):
    """Finetunes W in `alpha * W + (1 - alpha) * W0` with alpha drawn once and fixed.

    The ablation "random fixed alpha" of Somayajula et al., NAACL 2024 (arXiv:2403.12918). Alpha is
    the outer product of two factors a matrix, each entry uniform in [low, high]; no folds.

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      low, high: least and greatest entry of a factor.
    """

    name: ClassVar[str] = "random_alpha"

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        within(self, 0, 1, "low", "high")
        if self.low > self.high:
            raise InputError(
                f"RandomAlpha.low: expected at most high = {self.high}, found {self.low}"
            )

    def fit(self, job: Job) -> Fit:
        where = Leaves.of(job.encoder.params, job.encoder.is_mixed)
        mixup = Mixup(where=where, init=_uniform(self.low, self.high))
        step = mixed(self.step(job), job, mixup)
        alpha = mixup.init(job.key("alpha"), job.encoder.params)
        return (yield from self.train(job, step, self.start(job), alpha))


@lru_cache(maxsize=64)
def _uniform(low: float, high: float):
    def draw(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, low, high)

    return draw
