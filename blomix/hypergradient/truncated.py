"""Estimators that leave out what early inner steps contribute."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from blomix.errors import InputError
from blomix.hypergradient.exact import Exact
from blomix.hypergradient.unrolled import (
    Estimator,
    Outcome,
    OuterLoss,
    Setting,
    plain_gradient,
    unroll,
)

PyTree = Any


@dataclass(frozen=True)
class FirstOrder(Estimator):
    r"""The direct part alone: `d f(task_K, alpha) / d alpha` at a constant task_K.

    It leaves out that alpha changes the inner updates, as DARTS' first-order variant does (Liu et
    al. 2019, arXiv:1806.09055, section 2.3). Cost in gradients: 1 + K.
    """

    differentiates_updates = False

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        (task, inner_state), record = unroll(setting, plain_gradient, jax.lax.stop_gradient(alpha))
        loss, aux = setting.f(task, alpha, (setting.shared, setting.outer_data))
        return loss, Outcome(task, inner_state, record, aux)

    def cost(self, unroll: int) -> float:
        return 1 + unroll


@dataclass(frozen=True)
class Truncated(Estimator):
    r"""Exact through the last `steps` inner steps; earlier ones count as constants.

    Shaban, Cheng, Hatch, Boots, "Truncated Back-propagation for Bilevel Optimization", AISTATS
    2019 (arXiv:1810.10667), eq. 5. Cost in gradients, t being `steps`: 1 + K + 8/3 t.

    Args:
      steps: t; K or more is exact.

    Raises:
      InputError: `steps` is less than 1.
    """

    steps: int = 1

    def __post_init__(self):
        if self.steps < 1:
            raise InputError(f"Truncated: steps should be at least 1, found {self.steps}")

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        _, keys = setting.inner_data
        constant = keys.shape[0] - self.steps
        if constant <= 0:
            return Exact().outer_loss(setting, alpha)
        head, tail = (
            jax.tree.map(lambda x, part=part: x[part], setting.inner_data)
            for part in (slice(constant), slice(constant, None))
        )
        (task, inner_state), early = unroll(
            setting._replace(inner_data=head), plain_gradient, jax.lax.stop_gradient(alpha)
        )
        rest = setting._replace(task=task, inner_state=inner_state, inner_data=tail)
        loss, outcome = Exact().outer_loss(rest, alpha)
        record = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, outcome.inner)
        return loss, outcome._replace(inner=record)

    def cost(self, unroll: int) -> float:
        through = min(self.steps, unroll)
        return Exact().cost(through) + unroll - through
