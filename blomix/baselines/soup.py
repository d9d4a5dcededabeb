"""Soup control: the recipe without alpha."""

from dataclasses import dataclass
from typing import ClassVar

from blomix.recipe.folded import Folded
from blomix.recipe.job import Job
from blomix.recipe.phase import Fit
from blomix.recipe.training import mean


@dataclass(frozen=True)
class Soup(Folded):
    """Trains one model a fold, averages their weights, finetunes the average on all the data.

        w = 1/K sum_k w_k,    w_k trained on the inner split of fold k

    The uniform soup of Wortsman et al., "Model soups", ICML 2022 (arXiv:2203.05482), section 2,
    over folds in place of hyperparameters. Folds, order of batches and inner optimisation are those
    of `Recipe`: it is the recipe with alpha = 1 throughout, so what the recipe gains beyond it is
    alpha's doing. The outer splits are not used.

    Cost: `folds` inner trainings and the finetuning, 1 gradient evaluation a step.
    """

    name: ClassVar[str] = "soup"

    def fit(self, job: Job) -> Fit:
        start = mean((yield self.plain_search(job, self.starts(job))))
        return (yield from self.train(job, self.step(job), start))
