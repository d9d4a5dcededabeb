"""The estimate that the released code of the method computes, written as one more estimator."""

from dataclasses import dataclass
from typing import Any

import jax
import optax

from blomix.hypergradient import Estimator, Outcome, Setting
from blomix.hypergradient.unrolled import OuterLoss, plain_gradient, unroll, with_derivative

PyTree = Any


@dataclass(frozen=True)
class ReleasedCode(Estimator):
    """A finite difference as in FiniteDifference(fresh_keys=True), but for two more things:

    - it is taken around the new task weights, after the inner step, not around those before it;
    - the learning rate is missing from the indirect part, which is 1 / learning_rate too large.

    The preconditioner (the derivative of Adam's update) is kept. One inner step only.
    """

    learning_rate: float
    scale: float = 0.01

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        return with_derivative(self._value_and_derivative, setting, alpha)

    def _value_and_derivative(self, setting: Setting, alpha: PyTree) -> tuple[OuterLoss, PyTree]:
        (task, inner_state), record = unroll(setting, plain_gradient, alpha)
        (loss, aux), (outer_gradient, direct) = jax.value_and_grad(
            setting.f, argnums=(0, 1), has_aux=True
        )(task, alpha, (setting.shared, setting.outer_data))
        batch, key = jax.tree.map(lambda x: x[0], setting.inner_data)

        def gradient_of(task, key, argnums):
            data = (setting.shared, (batch, key))
            return jax.grad(setting.f, argnums=argnums, has_aux=True)(task, alpha, data)[0]

        def update(gradient):
            return setting.inner.update(gradient, setting.inner_state, setting.task)[0]

        _, pull_back = jax.vjp(update, gradient_of(setting.task, key, 0))
        (direction,) = pull_back(outer_gradient)
        direction = optax.tree.scale(1 / self.learning_rate, direction)
        step = self.scale / optax.tree.norm(direction)

        def side(sign, number):
            point = optax.tree.add_scale(task, sign * step, direction)
            return gradient_of(point, jax.random.fold_in(key, number), 1)

        indirect = jax.tree.map(lambda p, m: (p - m) / (2 * step), side(1, 0), side(-1, 1))
        outer = (loss, Outcome(task, inner_state, record, aux))
        return outer, optax.tree.add(direct, indirect)

    def cost(self, unroll: int) -> float:
        return 1 + 3 * unroll
