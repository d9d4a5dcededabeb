"""Linear probing, then full finetuning."""

from dataclasses import dataclass
from typing import ClassVar

from blomix.recipe.training import Training


@dataclass(frozen=True)
class LpFt(Training):
    """Plain finetuning that starts from the linear probe's head.

    Kumar et al., "Fine-tuning can distort pretrained features and underperform
    out-of-distribution", ICLR 2022 (arXiv:2202.10054), section 3. A random head's first gradients
    distort the features; a fitted head's do less. The probe is a regression, see `Probe`.

    Cost: 1 gradient evaluation a step.
    """

    name: ClassVar[str] = "lp_ft"

    head_init: str = "probe"
