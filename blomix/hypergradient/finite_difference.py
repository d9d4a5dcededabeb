"""Differences in place of the second derivative: the estimator of DARTS."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from blomix.errors import InputError
from blomix.hypergradient.unrolled import (
    Estimator,
    Objective,
    OuterLoss,
    Setting,
    plain_gradient,
    unrolled_loss,
)

PyTree = Any


@dataclass(frozen=True)
class FiniteDifference(Estimator):
    r"""Through all inner steps, each second derivative by a central difference.

    A cotangent c of the inner gradient g = d f / d task is pulled back to

        (h_task, h_alpha) = [grad f(task + e c, alpha) - grad f(task - e c, alpha)] / (2 e),

    with `grad` over (task, alpha) and e = scale / ||c||: Liu, Simonyan, Yang, "DARTS", ICLR 2019
    (arXiv:1806.09055), eq. 8, with the inner optimizer's own derivative in the place of its
    learning rate. The error is of order e^2 from the curvature, and of the rounding divided by e.

    An entry of g that is exactly 0 (the row of a token that the batch lacks) has a c of
    1 / sqrt(eps_root) under Adam if it never was anything else, and would take the whole step for
    itself. No loss depends on it, so one whose c exceeds that of all entries in use stays in place.

    Cost in gradients: 1 + 3 K.

    Args:
      scale: length of the step from `task`, in weight space; DARTS has 0.01.
      fresh_keys: draws another dropout mask for each side, as the released code does; then the
        difference of the masks, not of the weights, dominates.
      restore: False leaves the task weights displaced by `scale` down the gradient of the outer
        loss, as the released code does with the library it pins. This leaks the outer examples
        into the task weights; it is here to be studied.

    Raises:
      InputError: `scale` is not positive.
    """

    scale: float = 0.01
    fresh_keys: bool = False
    restore: bool = True

    def __post_init__(self):
        if self.scale <= 0:
            raise InputError(f"FiniteDifference: scale should be positive, found {self.scale}")

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        loss, outcome = unrolled_loss(setting, partial(_difference_gradient, self), alpha)
        if self.restore:
            return loss, outcome
        task, alpha = jax.lax.stop_gradient((outcome.task, alpha))
        data = (setting.shared, setting.outer_data)
        outer_gradient, _ = jax.grad(setting.f, has_aux=True)(task, alpha, data)
        displaced = _move(task, -_step(self.scale, outer_gradient), outer_gradient)
        return loss, outcome._replace(task=displaced)

    def cost(self, unroll: int) -> float:
        return 1 + 3 * unroll + (not self.restore)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _difference_gradient(
    options: FiniteDifference, f: Objective, task: PyTree, alpha: PyTree, data: PyTree
):
    return plain_gradient(f, task, alpha, data)


def _forward(options, f, task, alpha, data):
    value, g = plain_gradient(f, task, alpha, data)
    return (value, g), (task, alpha, data, jax.tree.map(lambda g: g != 0, g))


def _backward(options, f, residuals, cotangents):
    task, alpha, data, used = residuals
    (loss_bar, _), direction = cotangents
    shared, (batch, key) = data
    direction = _in_use(direction, used)
    step = _step(options.scale, direction)

    def gradient(sign, side):
        side_key = jax.random.fold_in(key, side) if options.fresh_keys else key
        point = _move(task, sign * step, direction)
        at = (point, alpha, (shared, (batch, side_key)))
        return jax.grad(f, argnums=(0, 1), has_aux=True)(*at)[0]

    # An optimizer that looks at the loss has a cotangent of it, whose gradient is the mean.
    h_task, h_alpha = jax.tree.map(
        lambda plus, minus: ((plus - minus) / (2 * step) + loss_bar * (plus + minus) / 2).astype(
            plus.dtype
        ),
        gradient(1, 0),
        gradient(-1, 1),
    )
    return h_task, h_alpha, None


_difference_gradient.defvjp(_forward, _backward)


def _in_use(direction: PyTree, used: PyTree) -> PyTree:
    """`direction` without the entries not `used` that are greater than all that are."""
    greatest = optax.tree.norm(jax.tree.map(jnp.multiply, direction, used), ord="inf")
    return jax.tree.map(lambda d, u: jnp.where(u | (jnp.abs(d) <= greatest), d, 0), direction, used)


def _step(scale: float, direction: PyTree) -> jax.Array:
    norm = optax.tree.norm(direction)
    return scale / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny ** 0.5)


def _move(task: PyTree, step: jax.Array, direction: PyTree) -> PyTree:
    return jax.tree.map(lambda w, d: (w + step * d).astype(w.dtype), task, direction)
