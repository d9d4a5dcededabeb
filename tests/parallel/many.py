"""One of several processes of a run: a search over two folds, a finetuning; each step is saved.

python -m tests.parallel.many COORDINATOR PROCESSES PROCESS MESH RUN_DIR [PHASE LANE STEP]

With a phase, a lane and a step the process kills itself when it comes there.
"""

import os
import signal
import sys
from dataclasses import replace

import jax
import optax

from blomix.parallel import hosts
from blomix.parallel.mesh import OnMesh, Shape
from blomix.recipe.drive import drive
from blomix.recipe.phase import Fit, Fitted, Phase
from blomix.recipe.program import ONE_DEVICE, Placement
from blomix.recipe.progress import Progress
from blomix.recipe.training import Supervised, mean, plain_objective
from blomix.runs import open_run
from blomix.runs.processes import leaving_together
from tests.parallel.conftest import loss, make_search

FOLDS, STEPS = 2, 5
STEP = Supervised(plain_objective(loss), optax.adam(1e-2))


def train(directory, place: Placement = ONE_DEVICE, dies: tuple | None = None):
    """The final weights of a run in `directory`, begun or gone on with."""
    with open_run(directory, {}, {}, checkpoint_every=0) as run, leaving_together():
        (fitted,), _, _ = drive([fit(dies)], run, Progress(quiet=True), place=place)
    return fitted.params


def fit(dies: tuple | None = None) -> Fit:
    search = make_search(FOLDS, STEPS)
    found = yield deadly(search, dies)
    task = mean([task for task, _ in found])
    finetune = Phase(
        name="finetune",
        step=STEP,
        lanes=[lambda: STEP.init(task, jax.random.key(9))],
        shared=search.shared,
        batch=lambda lane, t: search.batch(7, t)["outer"],
        rows=lambda lane, t: [f"{t}"],
        steps=STEPS,
        result=lambda state: state.params,
    )
    ((params),) = yield deadly(finetune, dies)
    return Fitted(params)


def deadly(phase: Phase, dies: tuple | None) -> Phase:
    def batch(lane, t):
        if (phase.name, lane, t) == dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return phase.batch(lane, t)

    return replace(phase, batch=batch)


if __name__ == "__main__":
    coordinator, processes, process, mesh, directory, *dies = sys.argv[1:]
    hosts.join(coordinator, int(processes), int(process))
    train(
        directory,
        OnMesh.of(Shape.parse(mesh)),
        (dies[0], int(dies[1]), int(dies[2])) if dies else None,
    )
