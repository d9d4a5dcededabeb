"""Weight averaging: a moving average of the weights along training."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax

from blomix.recipe.checks import within
from blomix.recipe.job import Job
from blomix.recipe.phase import Fit
from blomix.recipe.training import Supervised, Training


@dataclass(frozen=True)
class Ema(Training):
    """Plain finetuning whose result is the moving average of its weights.

        m_t = decay_t m_(t-1) + (1 - decay_t) w_t,    decay_t = min(decay, t / (t + 1))

    t counts from 0, so the average is uniform until it is as long as the decay asks for, and the
    start has no share of it. Polyak and Juditsky, SIAM J. Control and Optimization 30, 1992,
    section 2, is the uniform part; of networks, Izmailov et al., UAI 2018 (arXiv:1803.05407).

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      decay: in [0, 1]; 1 / (1 - decay) steps have a say. 0 keeps the last weights, 1 weighs all
        steps alike.
    """

    name: ClassVar[str] = "ema"

    decay: float = 0.95

    def __post_init__(self):
        super().__post_init__()
        within(self, 0, 1, "decay")

    def fit(self, job: Job) -> Fit:
        start = self.start(job)
        return (yield from self.train(job, self.step(job), start, extra=start))

    def step(self, job: Job) -> Supervised:
        return replace(super().step(job), follow=average(self.decay), weights=averaged)


@lru_cache(maxsize=64)
def average(decay: float):
    def follow(mean, params, step):
        keep = jax.numpy.minimum(decay, step / (step + 1))
        return jax.tree.map(lambda m, w: w + keep.astype(w.dtype) * (m - w), mean, params)

    return follow


def averaged(params, mean, pretrained):
    return mean
