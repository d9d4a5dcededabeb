"""The elementary functions with rules of their own, held to jax's own and to what they promise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blomix.encoders import functions

X = np.random.default_rng(0).normal(size=(3, 5, 8)) * 3
PAIRS = {
    "gelu": (functions.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
    "softmax": (functions.softmax, jax.nn.softmax),
    "normalise": (
        lambda x: functions.normalise(x, 1e-5),
        lambda x: nn.LayerNorm(
            epsilon=1e-5, use_scale=False, use_bias=False, use_fast_variance=False
        ).apply({}, x),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_derivatives_up_to_the_third(name):
    with jax.enable_x64(True):
        weights, change = jnp.cos(X), jnp.sin(X)

        def numbers(function):
            gradient = jax.grad(lambda x: jnp.sum(function(x) ** 2 * weights))

            def product(x):
                return jax.jvp(gradient, (x,), (change,))[1]

            third = jax.grad(lambda x: jnp.sum(product(x) * weights))
            rows = jax.vmap(jax.vmap(function))
            return jax.jit(lambda x: (function(x), rows(x), gradient(x), product(x), third(x)))(X)

        own, usual = map(numbers, PAIRS[name])
        for one, other in zip(own, usual, strict=True):
            assert one.dtype == np.float64
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_one_array_is_kept_for_the_backward_pass(name):
    x = jnp.ones((4, 1000))
    _, backward = jax.vjp(PAIRS[name][0], x)
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(backward))
    assert kept < 1.01 * x.nbytes


@pytest.mark.parametrize("shape", [(1000, 64), (1000, 63), (8000, 8), (64000, 1)])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.97])
def test_dropout_keeps_its_share_and_the_mean(shape, rate):
    x = jnp.ones(shape)
    out = np.asarray(functions.dropout(x, rate, jax.random.key(3)))
    values = np.unique(out)
    assert len(values) == 2
    np.testing.assert_allclose(values, [0, 1 / (1 - rate)], rtol=1e-3)
    deviation = np.sqrt((1 - rate) * rate / out.size)
    assert abs(np.mean(out > 0) - (1 - rate)) < 4 * deviation


def test_dropout_of_every_element_is_its_own():
    """The two halves of the last axis come from the same words, and are as independent as any."""
    kept = np.asarray(functions.dropout(jnp.ones((20000, 6)), 0.3, jax.random.key(0))) > 0
    correlation = np.corrcoef(kept.T)
    assert np.abs(correlation - np.eye(6)).max() < 4 / np.sqrt(20000)


def test_dropout_is_linear_with_a_fixed_mask():
    x, key = jnp.asarray(X, jnp.float32), jax.random.key(1)

    def drop(x):
        return functions.dropout(x, 0.4, key)

    out, change = jax.jvp(drop, (x,), (2 * x,))
    np.testing.assert_array_equal(change, 2 * out)
    np.testing.assert_array_equal(jax.jit(drop)(x), out)
    keys = jax.random.split(key, 3)
    rows = jax.vmap(lambda x, key: functions.dropout(x, 0.4, key))(x, keys)
    for row, one, own in zip(rows, x, keys, strict=True):
        np.testing.assert_array_equal(row, functions.dropout(one, 0.4, own))
    for rate in (1e-9, 1 - 1e-9):  # rounded to 0, and to the nearest that keeps anything
        assert np.isfinite(functions.dropout(x, rate, key)).all()
    np.testing.assert_array_equal(functions.dropout(x, 1e-9, key), x)
