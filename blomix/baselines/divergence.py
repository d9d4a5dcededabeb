"""How far two sets of predictions are apart."""

import logging

import jax
import jax.numpy as jnp

from blomix.recipe.job import Job

logger = logging.getLogger(__name__)


def symmetric_divergence(logits: jax.Array, others: jax.Array, regression: bool) -> jax.Array:
    """Mean over rows of KL(p || q) + KL(q || p), or of the squared difference for a regression."""
    if regression:
        return jnp.mean((logits - others) ** 2)
    p, q = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    return jnp.mean(jnp.sum((jnp.exp(p) - jnp.exp(q)) * (p - q), axis=-1))


def expect_dropout(method: str, job: Job, otherwise: str) -> None:
    """Warns where two passes of a batch have no dropout masks to differ by."""
    if not any(job.encoder.architecture.dropout.rates().values()):
        logger.warning("%s: the encoder has no dropout, so %s", method, otherwise)
