"""Re-initialised top layers, and learning rates that fall with depth."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax
import optax

from blomix._trees import joined
from blomix.baselines.layers import above, depth_of, number_of_layers
from blomix.recipe.checks import whole, within
from blomix.recipe.job import Job
from blomix.recipe.leaves import put
from blomix.recipe.phase import Fit
from blomix.recipe.training import Training


@dataclass(frozen=True)
class Reinit(Training):
    """Draws the top layers and the pooler anew, and trains lower layers more slowly.

        rate of depth d = learning_rate * decay^(top - d)

    d is 0 for the embeddings, 1, 2, ... for the layers, `top` for pooler and head. Zhang, Wu,
    Katiyar, Weinberger and Artzi, "Revisiting few-sample BERT fine-tuning", ICLR 2021
    (arXiv:2006.05987), section 5; the rates are the discriminative fine-tuning of Howard and Ruder,
    ACL 2018 (arXiv:1801.06146), section 3.2.

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      layers: how many are drawn anew.
      decay: in [0, 1]; 1 trains all layers at one rate.
    """

    name: ClassVar[str] = "reinit"

    layers: int = 1
    decay: float = 0.9

    def __post_init__(self):
        super().__post_init__()
        whole(self, "layers", least=0)
        within(self, 0, 1, "decay")

    def fit(self, job: Job) -> Fit:
        encoder = job.encoder
        if self.layers:
            top = above(encoder, number_of_layers(encoder) - self.layers)
            fresh = top.pick(encoder.model.init(job.key("reinit")))
            fresh = {name: leaf for name, leaf in fresh.items() if not name.startswith("head/")}
            encoder = replace(encoder, params=put(fresh, encoder.params))
        # A probe's head is fitted to the features of the layers as they are drawn.
        start = self.start(replace(job, encoder=encoder))
        return (yield from self.train(job, self.step(job), start))

    def direction(self, job: Job) -> optax.GradientTransformation:
        encoder = job.encoder
        top = number_of_layers(encoder) + 1
        factors = tuple(
            (joined(path), self.decay ** (top - depth_of(encoder, path)))
            for path, _ in jax.tree_util.tree_leaves_with_path(encoder.params)
        )
        return scaled(super().direction(job), factors)


@lru_cache(maxsize=64)
def scaled(direction: optax.GradientTransformation, factors: tuple[tuple[str, float], ...]):
    """`direction`, each leaf times its factor."""
    table = dict(factors)

    def scale(updates, params):
        return jax.tree_util.tree_map_with_path(lambda path, u: table[joined(path)] * u, updates)

    return optax.chain(direction, optax.stateless(scale))
