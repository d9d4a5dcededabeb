"""How much could alpha gain, on top of trained task weights, with labels to spare?

Command: python -m experiments.low_resource.headroom.run --model MODEL --data DATA

The soup control (the default recipe with alpha = 1) is trained on 100 examples. Then its task
weights stay as they are, and alpha is

- one constant at all mixed weights, over a grid;
- learned by Adam on `OUTER` more labelled examples, which nobody with 100 has: one alpha a matrix,
  or rank 1, whose factors start at 1 or at 0.5, its entries therefore at 1 or at 0.25.

An alpha that is learned on 20 of the 100 examples knows less; but this is no bound on the recipe,
whose task weights are trained with alpha. Tuning tasks; scores are of the validation split.
Writes and prints what `experiments.low_resource.scored.run` says, against alpha = 1.
"""

from pathlib import Path

import jax
import numpy as np
import optax

from blomix.bench.jobs import Workshop
from blomix.bench.study import Cell
from blomix.data import batch_rows, subsample
from blomix.mixup import Mixup
from blomix.recipe.drive import drive
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves
from blomix.recipe.phase import Unrecorded
from blomix.recipe.progress import Progress
from experiments.low_resource.scored import run, score

CONSTANTS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
LEARNED = (("matrix", 1.0), ("rank1", 1.0), ("rank1", 0.5))
OUTER, STEPS, BATCH, RATE = 500, 64, 16, 2e-2  # two passes
ONE = "constant 1"


def learned(job: Job, mixup: Mixup, task, more: dict[str, np.ndarray]):
    """The mixed weights after `STEPS` of Adam on alpha, the task weights fixed."""
    pretrained = job.encoder.params
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    @jax.jit
    def step(alpha, state, batch, key):
        def objective(alpha):
            return job.loss(mixup.mix(alpha, task, pretrained), batch, key)

        updates, state = optimizer.update(jax.grad(objective)(alpha), state)
        return mixup.project(optax.apply_updates(alpha, updates)), state

    alpha = mixup.init(job.key("alpha"), pretrained)
    state = optimizer.init(alpha)
    for t in range(STEPS):
        rows = batch_rows(len(more["labels"]), BATCH, seed=job.seed, fold=0, step=t)
        batch = {name: array[rows] for name, array in more.items()}
        alpha, state = step(alpha, state, batch, jax.random.fold_in(job.key("masks"), t))
    return mixup.mix(alpha, task, pretrained)


def scores_of(workshop: Workshop, cell: Cell) -> dict[str, float]:
    """Name of an alpha -> score."""
    job = workshop.job(cell)
    pretrained = job.encoder.params
    train, _ = workshop.examples(cell.task)
    mine = set(job.train.digests)
    others = train.select([row for row, digest in enumerate(train.digests) if digest not in mine])
    others = subsample(others, min(OUTER, len(others)), cell.seed)
    length = cell.task.max_length
    more = job.encoder.encode(others, length, multiple=length)
    (fitted,), _, _ = drive([workshop.method(cell).fit(job)], Unrecorded(), Progress(quiet=True))
    where = Leaves.of(pretrained, job.encoder.is_mixed)

    found = {}
    for constant in CONSTANTS:
        mixup = Mixup("matrix", where=where, init=constant)
        alpha = mixup.init(job.key("alpha"), pretrained)
        found[f"constant {constant:g}"] = mixup.mix(alpha, fitted.params, pretrained)
    for granularity, init in LEARNED:
        mixup = Mixup(granularity, where=where, init=init)
        found[f"{granularity} from {init:g}"] = learned(job, mixup, fitted.params, more)
    return {name: score(workshop, cell, params) for name, params in found.items()}


if __name__ == "__main__":
    run(Path(__file__).parent, scores_of, ONE, __doc__)
