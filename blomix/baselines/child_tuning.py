"""Child-Tuning: gradients of some of the weights, drawn at random or by Fisher information."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from blomix.baselines.layers import in_layers
from blomix.errors import InputError
from blomix.recipe.checks import one_of
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves, put
from blomix.recipe.phase import Fit, Phase
from blomix.recipe.training import Supervised, Training, accumulated, plain_objective


@dataclass(frozen=True)
class ChildTuning(Training):
    """Masks the encoder's gradient before the optimizer sees it; the head trains as usual.

        F (task-free):    g~ = M g / share,  M ~ Bernoulli(share) a weight, drawn anew each step
        D (task-driven):  g~ = M g,          M = 1 on the `share` of the layers' weights with the
                                             greatest Fisher information sum over batches of
                                             grad L(w0)^2, and on all that is in no layer

    Xu, Luo, Zhang et al., "Raise a child in large language model: Towards effective and
    generalizable fine-tuning", EMNLP 2021 (arXiv:2109.05687), sections 2.2 and 2.3; that D leaves
    embeddings alone is of its authors' code. Counted in, the rows of absent tokens, which have no
    information, would leave little of the layers out. Weight decay is not masked. In that code F
    masks the head too, clipping is left to the trainer, before the mask, and gradients that D
    squares are clipped and under dropout; not so here.

    Cost: 1 gradient evaluation a step; D needs one epoch more, for the Fisher information.

    Attributes (besides those of `Training`):
      mode: "F" or "D".
      share: of the weights named above with a gradient, in (0, 1]; F draws among the encoder's.
    """

    name: ClassVar[str] = "child_tuning"

    mode: str = "D"
    share: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        one_of(self, "mode", "F", "D")
        if not 0 < self.share <= 1:
            raise InputError(f"ChildTuning.share: expected (0, 1], found {self.share}")

    def fit(self, job: Job) -> Fit:
        start = self.start(job)
        mask = None
        if self.mode == "D":
            (information,) = yield self.fisher(job, start)
            layers = Leaves.of(job.encoder.params, lambda path, _: in_layers(path))
            mask = greatest(information, layers, self.share)
        return (yield from self.train(job, self.step(job), start, extra=mask))

    def step(self, job: Job) -> Supervised:
        leaves = self.encoder_leaves(job)
        gradient = Thinned(leaves, self.share) if self.mode == "F" else Masked()
        return replace(super().step(job), gradient=gradient)

    def encoder_leaves(self, job: Job) -> Leaves:
        encoder = job.encoder
        return Leaves.of(encoder.params, lambda path, leaf: not encoder.is_head(path, leaf))

    def fisher(self, job: Job, start: Any) -> Phase:
        """One epoch at the start's weights that sums squared gradients, without dropout."""

        def rows(_, t):
            return job.rows("fisher", t, self.batch_size)

        return Phase(
            name="fisher",
            step=squared_gradients(job.loss, self.accumulate),
            lanes=[lambda: (start, jax.tree.map(jnp.zeros_like, start))],
            shared=job.encoder.params,
            batch=lambda lane, t: job.take(rows(lane, t)),
            rows=lambda lane, t: job.digests(rows(lane, t)),
            steps=job.steps(1, self.batch_size),
            updates=0,
            result=lambda state: state[1],
        )


@lru_cache(maxsize=64)
def squared_gradients(loss: Callable, parts: int):
    value_and_gradient = accumulated(plain_objective(loss), parts)

    def step(state, pretrained, batch):
        params, total = state
        value, gradient = value_and_gradient(params, None, pretrained, batch, None)
        total = jax.tree.map(lambda sum_, g: sum_ + g**2, total, gradient)
        return (params, total), {"loss": value}

    return step


def greatest(information: Any, leaves: Leaves, share: float) -> Any:
    """1 at the `share` of the entries of `leaves` that are greatest, and all over other leaves."""
    picked = {name: np.asarray(leaf) for name, leaf in leaves.pick(information).items()}
    flat = np.concatenate([leaf.ravel() for leaf in picked.values()])
    count = max(1, round(share * flat.size))
    least = np.partition(flat, flat.size - count)[-count:]
    masks = {name: jnp.asarray(leaf >= least.min()) for name, leaf in picked.items()}
    return put(masks, jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), information))


@dataclass(frozen=True)
class Masked:
    """Takes `value_and_grad` to the value and the gradient times the mask in `extra`."""

    def __call__(self, whole: Callable) -> Callable:
        def value_and_gradient(params, mask, *rest):
            loss, gradient = whole(params, mask, *rest)
            return loss, jax.tree.map(jnp.multiply, gradient, mask)

        return value_and_gradient


@dataclass(frozen=True)
class Thinned:
    """Takes `value_and_grad` to the value and a gradient with a random part of it set to 0."""

    leaves: Leaves
    share: float

    def __call__(self, whole: Callable) -> Callable:
        def value_and_gradient(params, extra, pretrained, batch, key):
            loss, gradient = whole(params, extra, pretrained, batch, key)
            picked = self.leaves.pick(gradient)
            keys = jax.random.split(jax.random.fold_in(key, 1), len(picked))
            thinned = {
                name: jnp.where(jax.random.bernoulli(own, self.share, g.shape), g / self.share, 0)
                for (name, g), own in zip(sorted(picked.items()), keys, strict=True)
            }
            return loss, put(thinned, gradient)

        return value_and_gradient
