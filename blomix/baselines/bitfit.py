"""BitFit: finetuning of the biases alone."""

from dataclasses import dataclass
from typing import ClassVar

from blomix._trees import joined
from blomix.baselines.partial import Partial
from blomix.errors import InputError
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves


@dataclass(frozen=True)
class BitFit(Partial):
    """Trains all bias terms, LayerNorm's among them, and the head.

    Ben Zaken, Ravfogel and Goldberg, "BitFit: Simple parameter-efficient fine-tuning for
    transformer-based masked language-models", ACL 2022 (arXiv:2106.10199), section 3. It wants a
    larger learning rate than plain finetuning (the authors: 1e-4 to 1e-3).

    Cost: counted as 1 gradient evaluation a step, though it takes about two thirds of one.
    """

    name: ClassVar[str] = "bitfit"

    learning_rate: float = 1e-3

    def trained(self, job: Job) -> Leaves:
        encoder = job.encoder

        def where(path, leaf):
            return encoder.is_head(path, leaf) or joined(path).endswith("/bias")

        leaves = Leaves.of(encoder.params, where)
        if all(encoder.is_head(path.split("/")) for path in leaves.paths):
            raise InputError(
                "bitfit: expected an encoder with biases, found one that has none "
                f"({encoder.config.get('model_type')}); lora would do"
            )
        return leaves
