"""Exact against plain `jax.grad` (1e-9), for families of optax that have no test elsewhere."""

from functools import partial

import jax.numpy as jnp
import optax
import pytest

from blomix import BilevelProblem, Mixup
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


@pytest.mark.filterwarnings("ignore:the inner optimizer's update has no finite derivative")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family):
    optimizer = getattr(optax, family)(learning_rate=0.05)
    make = partial(BilevelProblem, loss, Mixup(init=0.7), optimizer, unroll=2)
    state = make().init(KEY, PRETRAINED, task=TASK)

    @jit
    def all_of(state):
        return tuple(
            make(hypergradient=way).hypergradient(state, PRETRAINED, INNER, OUTER)
            for way in ("exact", "reverse", "first_order")
        )

    exact, reverse, direct = all_of(state)
    assert relative_error(exact, reverse) < 1e-9
    assert relative_error(direct, reverse) > 1e-3  # there is an indirect part to be right about
