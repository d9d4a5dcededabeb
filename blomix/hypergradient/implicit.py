r"""The hypergradient at a minimum of the inner loss, by the implicit function theorem.

Where `d f_in(W, alpha) / d W = 0` holds for every alpha,

    d f_out / d alpha = direct - (d^2 f_in / d alpha d W) H^-1 (d f_out / d W)

with H = d^2 f_in / d W^2. Here W is the end of the K inner steps and f_in the loss of the last
inner batch (with its key). After a few steps of finetuning W is far from a minimum and H is not
positive definite: these estimators are rivals to compare with. H is never formed: its products
are jvps of the gradient, linearised once.
"""

from abc import abstractmethod
from collections.abc import Callable
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
    Outcome,
    OuterLoss,
    Setting,
    plain_gradient,
    unroll,
)

PyTree = Any
Product = Callable[[PyTree], PyTree]


class _Implicit(Estimator):
    """What the two have in common; they differ in how they solve H x = v."""

    differentiates_updates = False

    @abstractmethod
    def solve(self, product: Product, v: PyTree) -> PyTree:
        """`H^-1 v`, or what stands for it; `product(p)` is `H p`."""

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        (task, inner_state), record = unroll(setting, plain_gradient, jax.lax.stop_gradient(alpha))
        last = (setting.shared, jax.tree.map(lambda x: x[-1], setting.inner_data))
        task = _minimum(self.solve, setting.f, alpha, task, last)
        loss, aux = setting.f(task, alpha, (setting.shared, setting.outer_data))
        return loss, Outcome(task, inner_state, record, aux)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _minimum(solve: Callable, f: Objective, alpha: PyTree, task: PyTree, data: PyTree) -> PyTree:
    """`task`, with the derivative of the minimum of `f` at alpha."""
    return task


def _forward(solve, f, alpha, task, data):
    return task, (alpha, task, data)


def _backward(solve, f, residuals, v):
    alpha, task, data = residuals

    def gradient(task):
        return jax.grad(f, argnums=(0, 1), has_aux=True)(task, alpha, data)[0]

    _, tangent = jax.linearize(gradient, task)
    x = solve(lambda p: tangent(p)[0], v)
    return jax.tree.map(jnp.negative, tangent(x)[1]), None, None


_minimum.defvjp(_forward, _backward)


@dataclass(frozen=True)
class Neumann(_Implicit):
    r"""`H^-1 v` by a truncated Neumann series, `s sum_{j=0}^{terms} (I - s H)^j v`.

    Lorraine, Vicol, Duvenaud, "Optimizing Millions of Hyperparameters by Implicit
    Differentiation", AISTATS 2020 (arXiv:1911.02590), algorithms 2 and 3. It converges only where
    all eigenvalues of H lie in (0, 2/s). Cost in gradients: K + 4 + 2 terms.

    Args:
      terms: the length of the series.
      step_size: s.

    Raises:
      InputError: `terms` is negative or `step_size` not positive.
    """

    terms: int = 8
    step_size: float = 0.01

    def __post_init__(self):
        if self.terms < 0 or self.step_size <= 0:
            raise InputError(
                "Neumann: terms should be at least 0 and step_size positive, found "
                f"{self.terms} and {self.step_size}"
            )

    def solve(self, product: Product, v: PyTree) -> PyTree:
        def term(carry, _):
            power, total = carry
            power = jax.tree.map(lambda p, h: p - self.step_size * h, power, product(power))
            return (power, optax.tree.add(total, power)), None

        (_, total), _ = jax.lax.scan(term, (v, v), None, length=self.terms)
        return jax.tree.map(lambda t: self.step_size * t, total)

    def cost(self, unroll: int) -> float:
        return unroll + 4 + 2 * self.terms


@dataclass(frozen=True)
class ConjugateGradient(_Implicit):
    r"""`(H + damping I)^-1 v` by conjugate gradients.

    Pedregosa, "Hyperparameter optimization with approximate gradient", ICML 2016
    (arXiv:1602.02355); Rajeswaran, Finn, Kakade, Levine, "Meta-Learning with Implicit Gradients",
    NeurIPS 2019 (arXiv:1909.04630). It needs H + damping I to be positive definite. Cost in
    gradients: K + 6 + 2 iterations.

    Args:
      iterations: at most so many.
      damping: added to the diagonal of H.

    Raises:
      InputError: `iterations` is less than 1 or `damping` negative.
    """

    iterations: int = 8
    damping: float = 1.0

    def __post_init__(self):
        if self.iterations < 1 or self.damping < 0:
            raise InputError(
                "ConjugateGradient: iterations should be at least 1 and damping at least 0, found "
                f"{self.iterations} and {self.damping}"
            )

    def solve(self, product: Product, v: PyTree) -> PyTree:
        def damped(p):
            return jax.tree.map(lambda h, q: h + self.damping * q, product(p), p)

        x, _ = jax.scipy.sparse.linalg.cg(damped, v, tol=0.0, maxiter=self.iterations)
        return x

    def cost(self, unroll: int) -> float:
        return unroll + 6 + 2 * self.iterations
