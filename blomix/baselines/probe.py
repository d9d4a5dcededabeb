"""Linear probe: the pretrained encoder as it is, and a regression on its features."""

from dataclasses import dataclass
from typing import ClassVar

from blomix.recipe.checks import positive
from blomix.recipe.job import Job
from blomix.recipe.phase import Fit, Fitted
from blomix.recipe.probe import STRENGTH, fit_probe
from blomix.recipe.training import Training


@dataclass(frozen=True)
class Probe(Training):
    """Logistic regression on the frozen encoder's pooled features, ridge regression for values.

        min over V, b of sum_i CE(V h(x_i) + b, y_i) + |V|^2 / (2 strength)

    Of two classes V is the difference of their columns. Features h are standardised. Nothing is
    trained by gradient steps: of the shared settings none applies, and the seed decides the
    training examples alone, and a pooler's weights where the encoder's own pooling has one that is
    no part of its pretraining.

    Cost: no gradient evaluation; one forward pass over the examples.

    Attributes (besides those of `Training`):
      strength: inverse of the penalty.
    """

    name: ClassVar[str] = "probe"

    strength: float = STRENGTH

    def __post_init__(self):
        super().__post_init__()
        positive(self, "strength")

    def fit(self, job: Job) -> Fit:
        yield from ()
        return Fitted(
            job.encoder.with_head(job.encoder.params, *fit_probe(job, strength=self.strength))
        )
