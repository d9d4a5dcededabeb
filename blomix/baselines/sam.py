"""SAM: sharpness-aware minimisation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import optax

from blomix.recipe.checks import at_least
from blomix.recipe.job import Job
from blomix.recipe.training import Supervised, Training


@dataclass(frozen=True)
class Sam(Training):
    """Descends along the gradient at the worst point nearby.

        e = radius * g / |g|,  g = grad L(w);    the step's gradient is grad L(w + e)

    Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-aware minimization for efficiently improving
    generalization", ICLR 2021 (arXiv:2010.01412), equations 2 and 3; the norm is over all weights.
    Both gradients see the same batch and dropout mask.

    Cost: 2 gradient evaluations a step.

    Attributes (besides those of `Training`):
      radius: rho of the paper.
    """

    name: ClassVar[str] = "sam"

    radius: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "radius")

    def step(self, job: Job) -> Supervised:
        return replace(super().step(job), gradient=AtWorst(self.radius), cost=2.0)


@dataclass(frozen=True)
class AtWorst:
    """Takes `value_and_grad` to the value and the gradient at the worst point within `radius`."""

    radius: float

    def __call__(self, whole: Callable) -> Callable:
        def value_and_gradient(params, *rest):
            loss, gradient = whole(params, *rest)
            scale = self.radius / (optax.tree.norm(gradient) + 1e-12)
            worst = jax.tree.map(lambda w, g: w + scale * g, params, gradient)
            return loss, whole(worst, *rest)[1]

        return value_and_gradient
