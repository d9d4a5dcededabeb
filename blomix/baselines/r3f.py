"""R3F: predictions should not move when the embeddings move a little."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax
import jax.numpy as jnp

from blomix.baselines.divergence import expect_dropout, symmetric_divergence
from blomix.baselines.hype import expect_noise, layer_noise
from blomix.recipe.checks import at_least, one_of
from blomix.recipe.job import Job, task_loss
from blomix.recipe.training import Supervised, Training

_MASK = 0x6D61736B  # no small number: the i-th key of a split is the key folded with i


@dataclass(frozen=True)
class R3f(Training):
    """Adds the divergence of the predictions with and without noise on the embeddings.

        CE(f(x), y) + strength (KL(f(x) || f(x + z)) + KL(f(x + z) || f(x)))

    z ~ N(0, scale^2) or U(-scale, scale). Aghajanyan, Shrivastava, Gupta et al., "Better
    fine-tuning by reducing representational collapse", ICLR 2021 (arXiv:2008.03156). The noise is
    added to the first layer's input, after the embeddings' LayerNorm. Each pass has a dropout mask
    of its own, as in the authors' code (fairseq, `sentence_prediction_r3f`), so that with noise as
    small as theirs nearly all of the divergence is between two masks, as in R-Drop.

    Cost: 2 gradient evaluations a step.

    Attributes (besides those of `Training`):
      strength: lambda of the paper.
      scale: of the noise.
      noise: "normal" or "uniform".
    """

    name: ClassVar[str] = "r3f"

    strength: float = 1.0
    scale: float = 1e-5
    noise: str = "uniform"

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "strength", "scale")
        one_of(self, "noise", "normal", "uniform")

    def step(self, job: Job) -> Supervised:
        expect_dropout(self.name, job, f"its passes differ by noise of {self.scale:g} alone")
        expect_noise(self.name, job, self.scale)
        encoder = job.encoder
        objective = smooth(encoder.model, encoder.regression, self.strength, self.scale, self.noise)
        return replace(super().step(job), objective=objective, cost=2.0)


@lru_cache(maxsize=64)
def smooth(model, regression: bool, strength: float, scale: float, noise: str):
    def objective(params, extra, pretrained, batch, key):
        z = layer_noise(model, batch, key, scale, noise, layers=1)
        others = len(model.architecture.layer_of_step) - 1
        first_alone = jnp.pad(z, ((0, others), (0, 0), (0, 0), (0, 0)))
        other_mask = jax.random.fold_in(key, _MASK)
        clean = model.logits(params, batch, key)
        noisy = model.logits(params, batch, other_mask, noise=first_alone)
        loss = task_loss(clean, batch["labels"], regression)
        return loss + strength * symmetric_divergence(clean, noisy, regression)

    return objective
