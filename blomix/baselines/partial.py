"""Finetuning of some of the weights, the others as pretrained."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves, put
from blomix.recipe.phase import Fit
from blomix.recipe.training import Supervised, Training, loss_at


@dataclass(frozen=True)
class Partial(Training, ABC):
    """Plain finetuning of the leaves that a subclass names.

    The trained weights hold these alone, by their joined path, so that no optimizer state is spent
    on the others.
    """

    @abstractmethod
    def trained(self, job: Job) -> Leaves:
        """The leaves that are trained."""

    def fit(self, job: Job) -> Fit:
        start = self.trained(job).pick(self.start(job))
        return (yield from self.train(job, self.step(job), start))

    def step(self, job: Job) -> Supervised:
        return replace(super().step(job), objective=loss_at(whole, job.loss), weights=whole)


def whole(params, extra, pretrained):
    return put(params, pretrained)
