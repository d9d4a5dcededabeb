"""What the tests of the hypergradient share; they run under the fixture `float64`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

KEY = jax.random.key(0)
# The programs are tiny and run once: less optimization, shorter tests.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def relative_error(found, expected) -> float:
    """Of one pytree against another, as vectors."""
    found, expected = ravel_pytree(found)[0], ravel_pytree(expected)[0]
    return float(jnp.linalg.norm(found - expected) / jnp.linalg.norm(expected))
