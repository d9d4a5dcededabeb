"""L2-SP: a penalty on the distance from the pretrained weights."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax.numpy as jnp

from blomix.recipe.checks import at_least
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves
from blomix.recipe.training import Supervised, Training


@dataclass(frozen=True)
class L2sp(Training):
    """Adds a pull toward the pretrained weights to the loss, in place of weight decay.

        L(w) + strength / 2 |w_S - w0_S|^2 + head_strength / 2 |w_H|^2

    S is the encoder, H the head. Li, Grandvalet and Davoine, "Explicit inductive bias for transfer
    learning with convolutional networks", ICML 2018 (arXiv:1802.01483), section 3. The penalty is
    a part of the loss as there, so Adam rescales its gradient too.

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      strength, head_strength: alpha and beta of the paper.
    """

    name: ClassVar[str] = "l2sp"

    weight_decay: float = 0.0
    strength: float = 0.01
    head_strength: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "strength", "head_strength")

    def step(self, job: Job) -> Supervised:
        head = Leaves.of(job.encoder.params, job.encoder.is_head)
        objective = anchored(job.loss, head, self.strength, self.head_strength)
        return replace(super().step(job), objective=objective)


@lru_cache(maxsize=64)
def anchored(loss, head: Leaves, strength: float, head_strength: float):
    def objective(params, extra, pretrained, batch, key):
        old, new = head.others(pretrained), head.others(params)
        moved = sum(jnp.sum((new[name] - old[name]) ** 2) for name in new)
        size = sum(jnp.sum(leaf**2) for leaf in head.pick(params).values())
        return loss(params, batch, key) + strength / 2 * moved + head_strength / 2 * size

    return objective
