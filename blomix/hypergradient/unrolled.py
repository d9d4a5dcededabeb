r"""The derivative of the outer loss with respect to alpha, through the inner updates.

With f(task, alpha, data) the loss of the mixed weights, one inner step is

    g_k = d f(task_k, alpha, data_k) / d task,     task_{k+1}, s_{k+1} = update(g_k, s_k, task_k)

and the hypergradient that of `f(task_K(alpha), alpha, outer data)`. `docs/hypergradient.md` has
the derivation.
"""

from abc import ABC, abstractmethod
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


class Outcome(NamedTuple):
    """What comes with the outer loss: the end of the inner steps, and what they report."""

    task: PyTree
    inner_state: PyTree
    inner: Record
    outer_aux: Any


# What `estimator.outer_loss` returns: the loss, and what no derivative is taken of.
OuterLoss = tuple[jax.Array, Outcome]


def plain_gradient(f: Objective, task: PyTree, alpha: PyTree, data: PyTree):
    """((f, aux), d f / d task), differentiated again by whatever JAX does: reverse over reverse."""
    return jax.value_and_grad(f, has_aux=True)(task, alpha, data)


def unroll(setting: Setting, gradient: Callable, alpha: PyTree):
    """K inner steps at a fixed alpha: ((task_K, state_K), Record)."""

    def inner_step(carry, data):
        task, inner_state = carry
        (loss, aux), g = gradient(setting.f, task, alpha, (setting.shared, data))
        updates, inner_state = setting.inner.update(g, inner_state, task, value=loss)
        record = jax.lax.stop_gradient(Record(loss, optax.tree.norm(g), aux))
        return (optax.apply_updates(task, updates), inner_state), record

    return jax.lax.scan(inner_step, (setting.task, setting.inner_state), setting.inner_data)


def unrolled_loss(setting: Setting, gradient: Callable, alpha: PyTree) -> OuterLoss:
    """The outer loss after `unroll`, differentiable in alpha at the cost that `gradient` makes."""
    (task, inner_state), record = unroll(setting, gradient, alpha)
    loss, aux = setting.f(task, alpha, (setting.shared, setting.outer_data))
    return loss, Outcome(task, inner_state, record, aux)


def with_derivative(
    rule: Callable[[Setting, PyTree], tuple[OuterLoss, PyTree]], setting: Setting, alpha: PyTree
) -> OuterLoss:
    """An outer loss whose derivative with respect to alpha is computed along with it.

    `rule(setting, alpha)` gives `((loss, outcome), hypergradient)`, as `jax.value_and_grad` does.
    All that alpha does not determine is a constant: no derivative reaches it.
    """
    functions = {"mix": setting.mix, "loss": setting.loss, "inner": setting.inner}

    @jax.custom_vjp
    def outer_loss(alpha, arrays):
        return rule(arrays._replace(**functions), alpha)[0]

    def forward(alpha, arrays):
        return rule(arrays._replace(**functions), alpha)

    def backward(hypergradient, cotangents):
        scale, _ = cotangents
        return jax.tree.map(lambda g: scale.astype(g.dtype) * g, hypergradient), None

    outer_loss.defvjp(forward, backward)
    return outer_loss(alpha, setting._replace(**dict.fromkeys(functions)))


class Estimator(ABC):
    """A way to take the hypergradient: a derivative rule of the outer loss.

    `jax.grad(partial(estimator.outer_loss, setting), has_aux=True)` is its hypergradient.
    """

    # Whether the derivative of the inner optimizer's update is taken.
    differentiates_updates = True

    @abstractmethod
    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        """(outer loss after K inner steps, what comes with it)."""

    @abstractmethod
    def cost(self, unroll: int) -> float:
        """Gradient evaluations (3 units of matrix multiplication each), inner steps included."""


@dataclass(frozen=True)
class Reverse(Estimator):
    """Through all inner steps, by plain `jax.grad`: the reference.

    Cost in gradients: 1 + 3 K, and the memory of the activations of all of them.
    """

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        return unrolled_loss(setting, plain_gradient, alpha)

    def cost(self, unroll: int) -> float:
        return 1 + 3 * unroll
