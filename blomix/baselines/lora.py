"""LoRA: low-rank updates of frozen matrices."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax
import jax.numpy as jnp

from blomix.errors import InputError
from blomix.recipe.checks import positive, whole
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves, put
from blomix.recipe.phase import Fit
from blomix.recipe.training import Supervised, Training, loss_at


@dataclass(frozen=True)
class Lora(Training):
    """Trains a low-rank change of some matrices, and the head.

        W = W0 + scale / rank * A B,    A (in, rank), B (rank, out)

    Hu, Shen, Wallis et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022
    (arXiv:2106.09685), equation 3 (kernels here are (in, out), so A comes first). B starts at 0, A
    at N(0, 1 / in). The result is dense: A B is added to W0. It wants a larger learning rate than
    plain finetuning. Weight decay acts on the head alone.

    Cost: counted as 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      rank: of the change.
      scale: alpha of the paper.
      matrices: regular expression over the plain names of a layer's matrices (`matrix_of`).
    """

    name: ClassVar[str] = "lora"

    learning_rate: float = 1e-3
    rank: int = 8
    scale: float = 16.0
    matrices: str = "(decoder )?(cross )?(query|value)"

    def __post_init__(self):
        super().__post_init__()
        whole(self, "rank")
        positive(self, "scale")
        try:
            re.compile(self.matrices)
        except re.error as error:
            raise InputError(
                f"Lora.matrices: expected a regular expression, found {self.matrices!r}: {error}"
            ) from None

    def fit(self, job: Job) -> Fit:
        encoder = job.encoder
        start = self.start(job)
        head = Leaves.of(encoder.params, encoder.is_head)
        params = head.pick(start) | self.factors(job)
        return (yield from self.train(job, self.step(job), params))

    def factors(self, job: Job) -> dict[str, jax.Array]:
        """PATH/a and PATH/b of each matrix; b is 0."""
        matrices = self.changed(job).pick(job.encoder.params)
        factors = {}
        keys = jax.random.split(job.key("lora"), len(matrices))
        for (path, kernel), key in zip(sorted(matrices.items()), keys, strict=True):
            *stack, rows, columns = kernel.shape
            a = jax.random.normal(key, (*stack, rows, self.rank), kernel.dtype)
            factors[f"{path}/a"] = a / rows**0.5
            factors[f"{path}/b"] = jnp.zeros((*stack, self.rank, columns), kernel.dtype)
        return factors

    def changed(self, job: Job) -> Leaves:
        encoder = job.encoder

        def where(path, leaf):
            named = re.fullmatch(self.matrices, encoder.matrix_of(path)) is not None
            return named and encoder.is_mixed(path, leaf)

        found = Leaves.of(encoder.params, where)
        if not found.paths:
            raise InputError(f"Lora.matrices: {self.matrices!r} matches no matrix")
        return found

    def step(self, job: Job) -> Supervised:
        weights = merged(self.changed(job), self.scale / self.rank)
        return replace(super().step(job), objective=loss_at(weights, job.loss), weights=weights)


@lru_cache(maxsize=64)
def merged(changed: Leaves, scale: float):
    def weights(params, extra, pretrained):
        dense = {
            path: kernel + scale * params[f"{path}/a"] @ params[f"{path}/b"]
            for path, kernel in changed.pick(pretrained).items()
        }
        return put(params | dense, pretrained)

    return weights
