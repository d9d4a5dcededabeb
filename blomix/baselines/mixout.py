"""Mixout: dropout toward the pretrained weights."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax
import jax.numpy as jnp

from blomix.errors import InputError
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves, put
from blomix.recipe.training import Supervised, Training


@dataclass(frozen=True)
class Mixout(Training):
    """At each step, runs with a random share of the weights set back to the pretrained ones.

        w~ = ((1 - M) w + M w0 - p w0) / (1 - p),    M ~ Bernoulli(p) a weight

    Lee, Cho and Kang, "Mixout: Effective regularization to finetune large-scale pretrained language
    models", ICLR 2020 (arXiv:1909.11299), section 3; the correction makes E[w~] = w. Applied to the
    matrices that `Encoder.is_mixed` names.

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      probability: p, in [0, 1).
      dropout: whether the encoder's own dropout stays on; the authors replace it.
    """

    name: ClassVar[str] = "mixout"

    probability: float = 0.7
    dropout: bool = False

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.probability < 1:
            raise InputError(f"Mixout.probability: expected [0, 1), found {self.probability}")

    def step(self, job: Job) -> Supervised:
        where = Leaves.of(job.encoder.params, job.encoder.is_mixed)
        objective = mixed_out(job.loss, where, self.probability, self.dropout)
        return replace(super().step(job), objective=objective)


@lru_cache(maxsize=64)
def mixed_out(loss, where: Leaves, probability: float, dropout: bool):
    def objective(params, extra, pretrained, batch, key):
        task, anchor = where.pick(params), where.pick(pretrained)
        keys = jax.random.split(jax.random.fold_in(key, 1), len(task))
        mixed = {}
        for (name, w), own in zip(sorted(task.items()), keys, strict=True):
            back = jax.random.bernoulli(own, probability, w.shape)
            set_back = jnp.where(back, anchor[name], w)
            mixed[name] = (set_back - probability * anchor[name]) / (1 - probability)
        return loss(put(mixed, params), batch, key if dropout else None)

    return objective
