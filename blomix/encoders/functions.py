"""Elementary functions, each with the derivative rule that keeps least for the backward pass.

Derived step by step, GELU, softmax and the norm each keep two or three arrays of the size of their
input, of which some are mere broadcasts; here it is one. The rules are plain jax, so they can be
differentiated again.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp

_LEVELS = 2**16  # the numbers that 16 random bits can be


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """x P(x), P the normal distribution function (Hendrycks and Gimpel, 2016, arXiv:1606.08415).

    By erf, as torch has it; erfc, of which `jax.nn.gelu` makes it, takes thrice the time on a CPU.
    """
    return x * _normal(x)


def _normal(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_tangent(change: jax.Array, out: jax.Array, x: jax.Array) -> jax.Array:
    density = jnp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return change * (_normal(x) + x * density)


gelu.defjvps(_gelu_tangent)


@jax.custom_jvp
def softmax(x: jax.Array) -> jax.Array:
    """exp(x_i) / sum_j exp(x_j) over the last axis."""
    powers = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return powers / jnp.sum(powers, axis=-1, keepdims=True)


def _softmax_tangent(change: jax.Array, out: jax.Array, x: jax.Array) -> jax.Array:
    return out * (change - jnp.sum(out * change, axis=-1, keepdims=True))


softmax.defjvps(_softmax_tangent)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def normalise(x: jax.Array, epsilon: float) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) over the last axis.

    The variance takes two passes: the one-pass form loses digits to cancellation.
    """
    return _normalise(x, epsilon)[0]


def _normalise(x: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return centred * scale, scale


@normalise.defjvp
def _normalise_tangent(epsilon, primals, tangents):
    (x,), (change,) = primals, tangents
    out, scale = _normalise(x, epsilon)
    along = jnp.mean(out * change, axis=-1, keepdims=True)
    return out, scale * (change - jnp.mean(change, axis=-1, keepdims=True) - out * along)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Inverted dropout (Srivastava et al., 2014); the identity without a key.

    16 random bits decide an element, so the rate is rounded to a multiple of 2^-16, and the kept
    ones are scaled by just that: the mean is exact. A word of 32 bits serves two elements, one in
    each half of the last axis, as random words are what dropout's time goes to on a CPU.
    """
    if key is None or rate == 0:
        return x
    *leading, last = x.shape
    words = jax.random.bits(key, (*leading, (last + 1) // 2), jnp.uint32)
    kept = max(round((1 - rate) * _LEVELS), 1)
    halves = [(words & (_LEVELS - 1)) < kept, (words >> 16) < kept]
    mask = jnp.concatenate(halves, axis=-1)[..., :last]
    return jnp.where(mask, x * (_LEVELS / kept), jnp.zeros_like(x))
