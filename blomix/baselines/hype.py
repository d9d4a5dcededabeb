"""HyPe: noise on the hidden states between layers."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax
import jax.numpy as jnp

from blomix.recipe.checks import at_least, one_of
from blomix.recipe.job import Job, task_loss
from blomix.recipe.training import Supervised, Training

logger = logging.getLogger(__name__)

_NOISE = 0x6E6F6973  # no small number: the i-th key of a split is the key folded with i


@dataclass(frozen=True)
class Hype(Training):
    """Adds random noise to the input of each layer (of BART, each of its encoder) while training.

        h~_l = h_l + z_l,    z_l ~ N(0, scale^2) or U(-scale, scale)

    Yuan, Yuan, Tan et al., "HyPe: Better pre-trained language model fine-tuning with hidden
    representation perturbation", ACL 2023 (arXiv:2212.08853), section 3.

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      scale: of the noise.
      noise: "normal" or "uniform".
    """

    name: ClassVar[str] = "hype"

    scale: float = 1e-5
    noise: str = "normal"

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "scale")
        one_of(self, "noise", "normal", "uniform")

    def step(self, job: Job) -> Supervised:
        expect_noise(self.name, job, self.scale)
        encoder = job.encoder
        objective = perturbed(encoder.model, encoder.regression, self.scale, self.noise)
        return replace(super().step(job), objective=objective)


def expect_noise(method: str, job: Job, scale: float) -> None:
    """Warns where most of the noise is rounded away: activations are about 1."""
    dtype = job.encoder.model.options.dtype
    if 0 < scale < jnp.finfo(dtype).eps / 16:
        logger.warning(
            "%s: most of its noise of %g is rounded away in %s; a larger scale, or float32, keeps "
            "it",
            method,
            scale,
            dtype,
        )


def layer_noise(model, batch, key: jax.Array, scale: float, noise: str, layers: int) -> jax.Array:
    """Noise (layers, batch, tokens, hidden), a draw for the input of each of the first `layers`.

    key: the step's, which dropout splits: the noise is drawn from a stream of its own.
    """
    key = jax.random.fold_in(key, _NOISE)
    shape = (layers, *batch["input_ids"].shape, model.architecture.hidden_size)
    if noise == "normal":
        return scale * jax.random.normal(key, shape)
    return jax.random.uniform(key, shape, minval=-scale, maxval=scale)


@lru_cache(maxsize=64)
def perturbed(model, regression: bool, scale: float, noise: str):
    def objective(params, extra, pretrained, batch, key):
        layers = len(model.architecture.layer_of_step)
        z = layer_noise(model, batch, key, scale, noise, layers)
        logits = model.logits(params, batch, key, noise=z)
        return task_loss(logits, batch["labels"], regression)

    return objective
