"""Every way to store inner steps gives the hypergradient of plain `jax.grad`, in less memory."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from blomix import BilevelProblem, InputError, Mixup
from blomix.bilevel import adamw
from blomix.hypergradient.exact import Exact, default_segment
from tests.numeric import KEY, draw, jit, relative_error


def loss(params, batch, key):
    hidden = params["embedding"][batch["ids"]]
    if batch.get("drop") is not None:
        hidden *= jax.random.bernoulli(key, 0.9, hidden.shape)
    hidden = jnp.tanh(hidden @ params["kernel"] + params["bias"])
    error = (hidden @ params["head"] - batch["targets"]) ** 2
    return jnp.mean(error), {"error": jnp.mean(error, axis=-1)}


PRETRAINED = {
    "embedding": draw(0, 7, 3),
    "kernel": draw(1, 3, 4),
    "bias": draw(2, 4),
    "head": draw(3, 4, 2),
    "version": np.arange(3),
}
OPTIMIZERS = {
    "adamw": adamw(0.01),
    "clipped, scheduled": optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.sgd(optax.linear_schedule(0.1, 0.01, 3), momentum=0.9, nesterov=True),
    ),
    "accumulated": optax.MultiSteps(adamw(0.01), 2),
    "masked": optax.chain(
        adamw(0.01), optax.masked(optax.scale(0.5), {k: k == "head" for k in PRETRAINED})
    ),
}


def batch(seed, *lead, **more):
    ids = np.random.default_rng(seed).integers(0, 5, size=(*lead, 4))
    return {"ids": ids, "targets": draw(seed, *lead, 4, 2), **more}


def estimate(hypergradient, optimizer, steps, drop=True):
    """(hypergradient, next task, next inner state, metrics), in float64, by one compilation."""
    inner_more, outer_more = ({"drop": np.ones(steps)}, {"drop": 1.0}) if drop else ({}, {})
    rate = 1e-3  # so small that alpha is not clipped
    with jax.enable_x64(True):
        mixup = Mixup(init=(0.7, 0.1))
        inner = OPTIMIZERS[optimizer]
        problem = BilevelProblem(
            loss, mixup, inner, optax.sgd(rate), steps, hypergradient, has_aux=True
        )
        task = {k: v + draw(5, *v.shape) if k != "version" else v for k, v in PRETRAINED.items()}

        def run(key, task, *batches):
            state = problem.init(key, PRETRAINED, task=task)
            after, metrics = problem.step(state, PRETRAINED, *batches)
            gradient = jax.tree.map(lambda a, b: (a - b) / rate, state.alpha, after.alpha)
            return gradient, after.task, after.inner_state, metrics

        batches = batch(0, steps, **inner_more), batch(1, **outer_more)
        return jax.device_get(jit(run)(KEY, task, *batches))


reference = cache(lambda *case: estimate("reverse", *case))


def check_equal(found, expected):
    found, expected = ravel_pytree(found)[0], ravel_pytree(expected)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("optimizer", "steps", "scheme"),
    [
        ("adamw", 1, Exact()),
        ("adamw", 1, Exact(residuals="keep")),
        ("adamw", 5, Exact()),  # one segment: nothing computed twice
        ("adamw", 5, Exact(segment=2)),  # segments of 2 and 2 steps, and the last
        ("adamw", 5, Exact(segment=2, residuals="keep")),
        ("clipped, scheduled", 5, Exact(segment=2)),
        ("accumulated", 5, Exact(segment=2)),
        ("masked", 5, Exact(segment=3)),
    ],
    ids=str,
)
def test_exact_under_every_scheme(optimizer, steps, scheme):
    found, expected = estimate(scheme, optimizer, steps), reference(optimizer, steps)
    for part, wanted in zip(found, expected, strict=True):
        check_equal(part, wanted)
    for leaf, wanted in zip(jax.tree.leaves(found[0]), jax.tree.leaves(expected[0]), strict=True):
        check_equal(leaf, wanted)


@pytest.mark.parametrize(("residuals", "steps"), [("keep", 1), ("recompute", 3)])
def test_microbatches_change_nothing_where_the_loss_is_a_mean(residuals, steps):
    scheme = Exact(residuals=residuals, microbatch=2, segment=2)
    found = estimate(scheme, "adamw", steps, drop=False)
    expected = reference("adamw", steps, False)
    for aux in ("inner_aux", "outer_aux"):  # part i has examples i, i + 2
        found[-1][aux] = jax.tree.map(lambda x: np.swapaxes(x, -1, -2), found[-1][aux])
    for part, wanted in zip(found, expected, strict=True):
        check_equal(part, wanted)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("residuals", ["recompute", "keep"])
def test_rematerialised_layers_change_nothing(residuals):
    pretrained = {"in": draw(0, 2, 3, 5), "out": draw(1, 2, 5, 3)}
    batches = {"x": draw(2, 3, 4, 3)}, {"x": draw(3, 4, 3)}

    def hypergradient(estimator, loss):
        problem = BilevelProblem(
            loss, Mixup(init=0.7), adamw(0.01), unroll=3, hypergradient=estimator
        )
        state = problem.init(KEY, pretrained, task=jax.tree.map(lambda x: 1.1 * x, pretrained))
        return jit(problem.hypergradient)(state, pretrained, *batches)

    found = hypergradient(Exact(residuals), layered_loss)
    expected = hypergradient("reverse", partial(layered_loss, remat=False))
    assert relative_error(found, expected) < 1e-9


def test_memory_grows_as_the_square_root_of_the_steps():
    lengths = 2 ** np.arange(3, 13)
    copies = [default_segment(k) + 3 * ((k - 2) // default_segment(k)) for k in lengths]
    assert all(c <= 2 * np.sqrt(3 * k) + 16 for c, k in zip(copies, lengths, strict=True))


def layered_loss(params, batch, key, remat=True):
    def layer(x, p):
        return jnp.tanh(jax.nn.gelu(x @ p["in"]) @ p["out"] + x), None

    x, _ = jax.lax.scan(jax.checkpoint(layer) if remat else layer, batch["x"], params)
    return jnp.mean(x**2)


def compiled(hypergradient, steps):
    """Temporary memory of a compiled step, in copies of the weights."""
    width, layers = 64, 4
    params = {
        "in": jnp.zeros((layers, width, 4 * width)),
        "out": jnp.zeros((layers, 4 * width, width)),
    }
    problem = BilevelProblem(layered_loss, Mixup(), unroll=steps, hypergradient=hypergradient)
    state = jax.eval_shape(problem.init, KEY, params)
    examples = jax.ShapeDtypeStruct((steps, 64, width), jnp.float32)
    step = jax.jit(problem.step).lower(
        state, params, {"x": examples}, {"x": jax.ShapeDtypeStruct(examples.shape[1:], "float32")}
    )
    weights = sum(x.nbytes for x in jax.tree.leaves(params))
    return step.compile().memory_analysis().temp_size_in_bytes / weights


def test_one_step_needs_few_copies_of_the_weights():
    exact = compiled("exact", 1)
    assert exact < 10  # a quarter of it activations
    assert exact < 0.7 * compiled("reverse", 1)


def test_a_further_step_costs_one_copy_of_the_weights_then_less():
    one_level = [compiled(Exact(segment=16), k) for k in (4, 12)]
    assert one_level[1] - one_level[0] < 1.1 * 8
    two_levels = [compiled("exact", k) for k in (16, 64)]
    assert two_levels[1] - two_levels[0] < 0.5 * 48


def test_errors():
    with pytest.raises(InputError, match="residuals should be 'recompute' or 'keep', found 'all'"):
        Exact(residuals="all")
    with pytest.raises(
        InputError, match="microbatch should be a whole number of at least 1, found 0"
    ):
        Exact(microbatch=0)
