"""Gradient accumulation: a batch whose activations do not fit, one part at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from blomix.errors import InputError

PyTree = Any


def in_parts(value_and_gradient: Callable, parts: int) -> Callable:
    """The mean over `parts` equal parts of a batch, whose activations take turns in memory.

        G = 1/n sum_i grad L(weights, part i)

    For a loss that is a mean over examples this is the gradient of the whole batch, but for
    rounding and for what is drawn at random: each part has a key of its own, split from that of the
    whole.

    Args:
      value_and_gradient: `(weights, batch, key) -> (value, gradient)`; the batch's leaves have the
        examples in front, a multiple of `parts` of them.
      parts: n.

    Returns:
      A function of the same arguments; its value has a leading axis of length n. It raises
      InputError where the rows of a batch are no multiple of n.
    """

    def cut(x: jax.Array) -> jax.Array:
        if x.shape[0] % parts:
            raise InputError(f"{x.shape[0]} rows of a batch cannot be cut into {parts} equal parts")
        # Every n-th example, so that rows which are split over devices stay where they are.
        return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)

    def compute(weights: PyTree, batch: PyTree, key: jax.Array | None):
        def add(total, part):
            value, gradient = value_and_gradient(weights, *part)
            return jax.tree.map(lambda t, g: t + g / parts, total, gradient), value

        keys = None if key is None else jax.random.split(key, parts)
        start = jax.tree.map(jnp.zeros_like, weights)
        total, values = jax.lax.scan(add, start, (jax.tree.map(cut, batch), keys))
        return values, total

    return compute
