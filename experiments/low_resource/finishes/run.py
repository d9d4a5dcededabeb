"""Is the average of several finishes better and steadier than one?

Command: python -m experiments.low_resource.finishes.run --model MODEL --data DATA

The soup control's folds are trained and averaged once. From that average its finetuning phase runs
three times, each with an order of batches and dropout masks of its own: the "finishes". Scored are
each of them (the first is the soup control itself) and the means of the weights of the first two
and of all three. A finish costs 21 gradients at 100 examples, the folds 25.

Writes and prints what `experiments.low_resource.scored.run` says, against one finish.
"""

from dataclasses import replace
from pathlib import Path

from blomix.baselines import Soup
from blomix.bench.jobs import Workshop
from blomix.bench.study import Cell
from blomix.recipe.drive import drive
from blomix.recipe.job import Job
from blomix.recipe.phase import Unrecorded
from blomix.recipe.progress import Progress
from blomix.recipe.training import mean
from experiments.low_resource.scored import run, score

FINISHES = 3
ONE = "1 finish"


def finishes(soup: Soup, job: Job):
    """The weights after each finish."""
    average = mean((yield soup.plain_search(job, soup.starts(job))))
    weights = []
    for finish in range(FINISHES):
        other = replace(job, seed=job.seed + 1000 * finish)
        weights.append((yield from soup.train(other, soup.step(other), average)).params)
    return weights


def scores_of(workshop: Workshop, cell: Cell) -> dict[str, float]:
    """Name -> score."""
    job, soup = workshop.job(cell), workshop.method(cell)
    assert isinstance(soup, Soup)
    (weights,), _, _ = drive([finishes(soup, job)], Unrecorded(), Progress(quiet=True))
    named = {ONE if k == 0 else f"1 finish, again {k}": one for k, one in enumerate(weights)}
    named |= {f"{k} finishes": mean(weights[:k]) for k in range(2, FINISHES + 1)}
    return {name: score(workshop, cell, params) for name, params in named.items()}


if __name__ == "__main__":
    run(Path(__file__).parent, scores_of, ONE, __doc__)
