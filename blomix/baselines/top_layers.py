"""Finetuning of the top layers alone."""

from dataclasses import dataclass
from typing import ClassVar

from blomix.baselines.layers import above, number_of_layers
from blomix.baselines.partial import Partial
from blomix.recipe.checks import whole
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves


@dataclass(frozen=True)
class TopLayers(Partial):
    """Trains the last `layers` layers, the pooler and the head; the rest stays as pretrained.

    Lee, Tang and Lin, "What would Elsa do? Freezing layers during transformer fine-tuning", 2019
    (arXiv:1911.03090): a quarter of the layers comes near full finetuning.

    Cost: counted as 1 gradient evaluation a step, though the frozen layers need no backward pass.

    Attributes (besides those of `Training`):
      layers: how many are trained; 0 trains the head and the pooler alone.
    """

    name: ClassVar[str] = "top_layers"

    layers: int = 2

    def __post_init__(self):
        super().__post_init__()
        whole(self, "layers", least=0)

    def trained(self, job: Job) -> Leaves:
        return above(job.encoder, number_of_layers(job.encoder) - self.layers)
