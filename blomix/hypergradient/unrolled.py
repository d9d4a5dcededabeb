r"""The derivative of the outer loss with respect to alpha, through the inner updates.

With f(task, alpha, data) the loss of the mixed weights, one inner step is

    g_k = d f(task_k, alpha, data_k) / d task,     task_{k+1}, s_{k+1} = update(g_k, s_k, task_k)

and the hypergradient that of `f(task_K(alpha), alpha, outer data)`. `docs/hypergradient.md` has
the derivation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax

PyTree = Any
# f(task, alpha, (shared, (batch, key))) -> (loss, aux)
Objective = Callable[[PyTree, PyTree, PyTree], tuple[jax.Array, Any]]


class Setting(NamedTuple):
    """All that an estimator works on.

    `shared` is data that no step changes and no derivative is taken of. `inner_data` is a pair
    (batches, keys) with a leading axis of length K; `outer_data` is one without.
    `mix(alpha, task, shared)` gives the mixed weights, `loss(mixed, (shared, data))` their loss
    and aux. All weights are float leaves alone.
    """

    mix: Callable[[PyTree, PyTree, PyTree], PyTree]
    loss: Callable[[PyTree, PyTree], tuple[jax.Array, Any]]
    inner: optax.GradientTransformationExtraArgs
    shared: PyTree
    task: PyTree
    inner_state: PyTree
    inner_data: PyTree
    outer_data: PyTree

    @property
    def f(self) -> Objective:
        mix, loss = self.mix, self.loss
        return lambda task, alpha, data: loss(mix(alpha, task, data[0]), data)


class Record(NamedTuple):
    """What is reported of each inner step; arrays with a leading axis of length K."""

    loss: jax.Array
    gradient_norm: jax.Array
    aux: Any


class Estimate(NamedTuple):
    """A hypergradient and the end of the unrolled inner steps it was taken through."""

    hypergradient: PyTree
    task: PyTree
    inner_state: PyTree
    inner: Record
    outer_loss: jax.Array
    outer_aux: Any


def plain_gradient(f: Objective, task: PyTree, alpha: PyTree, data: PyTree):
    """((f, aux), d f / d task), differentiated again by whatever JAX does: reverse over reverse."""
    return jax.value_and_grad(f, has_aux=True)(task, alpha, data)


def unroll(setting: Setting, gradient: Callable, alpha: PyTree):
    """K inner steps at a fixed alpha: ((task_K, state_K), Record)."""

    def inner_step(carry, data):
        task, inner_state = carry
        (loss, aux), g = gradient(setting.f, task, alpha, (setting.shared, data))
        loss, aux = jax.lax.stop_gradient((loss, aux))
        updates, inner_state = setting.inner.update(g, inner_state, task, value=loss)
        norm = jax.lax.stop_gradient(optax.tree.norm(g))
        return (optax.apply_updates(task, updates), inner_state), Record(loss, norm, aux)

    return jax.lax.scan(inner_step, (setting.task, setting.inner_state), setting.inner_data)


def differentiate(setting: Setting, gradient: Callable, alpha: PyTree) -> Estimate:
    """`jax.grad` of the outer loss through `unroll`; `gradient` decides what it costs."""

    def outer(alpha):
        (task, inner_state), record = unroll(setting, gradient, alpha)
        loss, aux = setting.f(task, alpha, (setting.shared, setting.outer_data))
        return loss, (task, inner_state, record, aux)

    (loss, (task, inner_state, record, aux)), hypergradient = jax.value_and_grad(
        outer, has_aux=True
    )(alpha)
    return Estimate(hypergradient, task, inner_state, record, loss, aux)


class Estimator:
    """A way to take the hypergradient: `estimator(setting, alpha) -> Estimate`."""

    # Whether the derivative of the inner optimizer's update is taken.
    differentiates_updates = True

    def __call__(self, setting: Setting, alpha: PyTree) -> Estimate:
        raise NotImplementedError

    def cost(self, unroll: int) -> float:
        """Gradient evaluations (3 units of matrix multiplication each), inner steps included."""
        raise NotImplementedError


@dataclass(frozen=True)
class Reverse(Estimator):
    """Through all inner steps, by plain `jax.grad`: the reference.

    Cost in gradients: 1 + 3 K, and the memory of the activations of all of them.
    """

    def __call__(self, setting: Setting, alpha: PyTree) -> Estimate:
        return differentiate(setting, plain_gradient, alpha)

    def cost(self, unroll: int) -> float:
        return 1 + 3 * unroll
