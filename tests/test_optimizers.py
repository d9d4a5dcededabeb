"""Exact against plain `jax.grad` (1e-9), for families of optax that have no test elsewhere."""

import dataclasses
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from blomix import BilevelProblem, Mixup
from blomix.hypergradient import FiniteDifference
from tests.numeric import KEY, draw, jit, relative_error

# Without absent tokens: most of these have no derivative where a gradient has always been 0.
PRETRAINED = {"in": draw(0, 3, 5), "bias": draw(1, 5), "out": draw(2, 5, 2)}
TASK = {name: w + 0.3 * draw(9, *w.shape) for name, w in PRETRAINED.items()}
INNER = {"x": draw(3, 2, 6, 3), "y": draw(4, 2, 6, 2)}
OUTER = {"x": draw(5, 6, 3), "y": draw(6, 6, 2)}

# What is particular to each: belief in the gradient, factored moments, a sum of squares, a maximum,
# a trust ratio, one moment a leaf, a branch on the step, accumulators shared along axes.
FAMILIES = ["adabelief", "adafactor", "adagrad", "adamax", "lamb", "novograd", "radam", "sm3"]


def loss(params, batch, key):
    hidden = jnp.tanh(batch["x"] @ params["in"] + params["bias"])
    return jnp.mean((hidden @ params["out"] - batch["y"]) ** 2)


def hypergradients(optimizer, *ways):
    make = partial(BilevelProblem, loss, Mixup(init=0.7), optimizer, unroll=2)
    state = make().init(KEY, PRETRAINED, task=TASK)

    @jit
    def all_of(state):
        return tuple(
            make(hypergradient=way).hypergradient(state, PRETRAINED, INNER, OUTER) for way in ways
        )

    return all_of(state)


@pytest.mark.filterwarnings("ignore:the inner optimizer's update has no finite derivative")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family):
    optimizer = getattr(optax, family)(learning_rate=0.05)
    exact, reverse, direct = hypergradients(optimizer, "exact", "reverse", "first_order")
    assert relative_error(exact, reverse) < 1e-9
    assert relative_error(direct, reverse) > 1e-3  # there is an indirect part to be right about


@pytest.mark.usefixtures("float64")
def test_an_optimizer_that_looks_at_the_loss():
    # Polyak's step is (loss - f_min) / |g|^2 long: the loss has a derivative of its own.
    optimizer = optax.polyak_sgd(max_learning_rate=1e3)
    ways = "exact", "reverse", FiniteDifference(1e-4)
    exact, reverse, difference = hypergradients(optimizer, *ways)
    assert relative_error(exact, reverse) < 1e-9
    assert relative_error(difference, reverse) < 1e-5

    problem = BilevelProblem(loss, Mixup(init=0.7), optimizer, optax.sgd(0.0), unroll=2)
    state = problem.init(KEY, PRETRAINED, task=TASK)
    flat, unravel = ravel_pytree(state.alpha)

    @jit
    def outer_loss(flat):
        at = dataclasses.replace(state, alpha=unravel(flat))
        return problem.step(at, PRETRAINED, INNER, OUTER)[1]["outer_loss"]

    for direction in np.eye(flat.size)[:3]:
        ahead, behind = (outer_loss(flat + h * direction) for h in (1e-5, -1e-5))
        slope = (ahead - behind) / 2e-5
        np.testing.assert_allclose(ravel_pytree(exact)[0] @ direction, slope, rtol=1e-6)
