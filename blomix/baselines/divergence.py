"""How far two sets of predictions are apart."""

import jax
import jax.numpy as jnp


def symmetric_divergence(logits: jax.Array, others: jax.Array, regression: bool) -> jax.Array:
    """Mean over rows of KL(p || q) + KL(q || p), or of the squared difference for a regression."""
    if regression:
        return jnp.mean((logits - others) ** 2)
    p, q = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    return jnp.mean(jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1))
