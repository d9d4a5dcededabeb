"""A search over folds as a phase, small enough to compile in a second."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from blomix.bilevel import BilevelProblem
from blomix.mixup import Mixup
from blomix.recipe.phase import Phase
from blomix.recipe.recipe import SearchStep

HIDDEN = 16


def loss(params, batch, key):
    inputs, targets = batch
    hidden = jax.numpy.tanh(inputs @ params["in"]["kernel"] + params["in"]["bias"])
    kept = jax.random.bernoulli(key, 0.9, hidden.shape)
    return jax.numpy.mean(((hidden * kept) @ params["out"]["kernel"] - targets) ** 2)


PROBLEM = BilevelProblem(
    loss,
    Mixup(init=0.5, where=r"kernel$"),
    inner=optax.adam(1e-2, eps_root=1e-16),
    outer=optax.adam(1e-2),
)
STEP = SearchStep(PROBLEM)


def make_search(width: int = 3, steps: int = 4) -> Phase:
    """A phase of `width` folds, each with its own batches and key."""
    draw = np.random.default_rng(0)
    pretrained = {
        "in": {
            "kernel": draw.normal(size=(8, HIDDEN)).astype(np.float32),
            "bias": np.zeros(HIDDEN, np.float32),
        },
        "out": {"kernel": draw.normal(size=(HIDDEN, 4)).astype(np.float32)},
    }

    def batch(lane, t):
        draw = np.random.default_rng((lane, t))
        inputs = draw.normal(size=(2, 16, 8)).astype(np.float32)
        targets = draw.normal(size=(2, 16, 4)).astype(np.float32)
        return {"inner": (inputs[:1], targets[:1]), "outer": (inputs[1], targets[1])}

    return Phase(
        name="search",
        step=STEP,
        lanes=[partial(PROBLEM.init, jax.random.key(lane), pretrained) for lane in range(width)],
        shared=pretrained,
        batch=batch,
        rows=lambda lane, t: [f"{lane}-{t}"],
        steps=steps,
        result=lambda state: (state.task, state.alpha),
    )


@pytest.fixture
def search():
    return make_search
