"""R-Drop: two dropout masks should agree."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax

from blomix.baselines.divergence import expect_dropout, symmetric_divergence
from blomix.recipe.checks import at_least
from blomix.recipe.job import Job, task_loss
from blomix.recipe.training import Supervised, Training


@dataclass(frozen=True)
class RDrop(Training):
    """Runs each batch under two dropout masks and pulls the two predictions together.

        (CE_1 + CE_2) / 2 + strength / 4 * (KL(p_1 || p_2) + KL(p_2 || p_1))

    Wu, Li, Wang et al., "R-Drop: Regularized dropout for neural networks", NeurIPS 2021
    (arXiv:2106.14448), equation 4, halved so that strength = 0 has the scale of a plain loss.
    Values in place of classes: the squared difference in place of the two divergences.

    Cost: 2 gradient evaluations a step.

    Attributes (besides those of `Training`):
      strength: alpha of the paper.
    """

    name: ClassVar[str] = "rdrop"

    strength: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "strength")

    def step(self, job: Job) -> Supervised:
        expect_dropout(self.name, job, "this is plain finetuning at twice its cost")
        objective = agreeing(job.encoder.model, job.encoder.regression, self.strength)
        return replace(super().step(job), objective=objective, cost=2.0)


@lru_cache(maxsize=64)
def agreeing(model, regression: bool, strength: float):
    def objective(params, extra, pretrained, batch, key):
        one, two = (model.logits(params, batch, own) for own in jax.random.split(key))
        losses = [task_loss(logits, batch["labels"], regression) for logits in (one, two)]
        return sum(losses) / 2 + strength / 4 * symmetric_divergence(one, two, regression)

    return objective
