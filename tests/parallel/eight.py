"""Run with eight CPU devices, prints what the tests of `test_mesh.py` compare, as JSON."""

import json
import re
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import optax

from blomix.bilevel import BilevelProblem
from blomix.encoders import Encoder
from blomix.mixup import Mixup
from blomix.parallel import hosts
from blomix.parallel.mesh import OnMesh, Shape
from blomix.recipe.drive import run_phase
from blomix.recipe.job import loss_of
from blomix.recipe.phase import Unrecorded
from blomix.recipe.program import ONE_DEVICE, compile_step
from blomix.recipe.progress import Progress
from blomix.recipe.recipe import SearchStep
from blomix.recipe.training import Supervised, plain_objective
from blomix.runs import open_run
from tests.parallel.conftest import make_search

WIDTH = 48  # of the feed-forward, so that its matrices are told from the others by shape
CONFIG = {
    "model_type": "bert",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": WIDTH,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}
BART = {
    "model_type": "bart",
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": WIDTH,
    "decoder_ffn_dim": WIDTH,
    "max_position_embeddings": 16,
}
COMPUTATION = re.compile(r"^(?:ENTRY )?%([\w.-]+) .*\{$")
COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


def results(mesh: str | None, recorder=None, phase=None) -> list[list[float]]:
    """Task weights and alpha of each lane after some steps of a search, flat."""
    place = ONE_DEVICE if mesh is None else OnMesh.of(Shape.parse(mesh))
    width = 4 if mesh and "ensemble" in mesh else 1
    phase, recorder = phase or make_search(4, 5), recorder or Unrecorded()
    lanes = run_phase(phase, recorder, Progress(quiet=True), width, place)
    return [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(lane)]).tolist()
        for lane in lanes
    ]


def resumed(meshes: str) -> list[list[float]]:
    """As `results`, of a run that dies on the first mesh and goes on on the second."""
    first, second = meshes.split("->")
    phase = make_search(4, 5)

    def dies(lane, t):
        if (lane, t) == (1, 3):
            raise KeyboardInterrupt
        return phase.batch(lane, t)

    with TemporaryDirectory() as directory:
        for mesh, batch in ((first, dies), (second, phase.batch)):
            with (
                suppress(KeyboardInterrupt),
                open_run(directory, {}, {}, checkpoint_every=0) as run,
            ):
                lanes = results(mesh or None, run, replace(phase, batch=batch))
                records = run.records()
    assert len(records) == 4 * 5
    return lanes


def decoder(mesh: str) -> int:
    """Bytes of temporaries of a compiled plain step of a small BART."""
    encoder = Encoder.from_config(BART, 2)
    step = Supervised(plain_objective(loss_of(encoder.model, False)), optax.sgd(1e-3))
    rows = jnp.zeros((16, 8), jnp.int32)
    batch = {"input_ids": rows, "attention_mask": rows, "labels": rows[:, 0]}
    state = jax.eval_shape(partial(step.init, encoder.params), jax.random.key(0))
    place = OnMesh.of(Shape.parse(mesh))
    return compile_step(step, (state, encoder.params, batch), place).memory["temporaries"]


def joined(arguments: str) -> list[list[float]]:
    """As `results`, of several processes: COORDINATOR/PROCESSES/PROCESS/MESH."""
    coordinator, processes, process, mesh = arguments.split("/")
    hosts.join(coordinator, int(processes), int(process))
    return results(mesh)


def collectives(mesh: str) -> dict[str, dict[str, list]]:
    """[computation, kind, shape, times] of every collective in a compiled plain and search step.

    The layers are a loop, so that one pass over them is one computation, its body.
    """
    encoder = Encoder.from_config(CONFIG, 2, scan_layers=True, dropout=0.0)
    loss, params, key = loss_of(encoder.model, False), encoder.params, jax.random.key(0)
    rows = jnp.zeros((16, 8), jnp.int32)
    batch = {"input_ids": rows, "attention_mask": rows, "labels": rows[:, 0]}
    optimizer = optax.adamw(1e-3, eps_root=1e-16)
    plain = Supervised(plain_objective(loss), optimizer)
    problem = BilevelProblem(loss, Mixup(where=encoder.is_mixed), inner=optimizer)
    both = {"inner": jax.tree.map(lambda x: x[None], batch), "outer": batch}
    steps = {
        "plain": (plain, jax.eval_shape(partial(plain.init, params), key), batch),
        "search": (SearchStep(problem), jax.eval_shape(problem.init, key, params), both),
    }
    place, found = OnMesh.of(Shape.parse(mesh)), {}
    for name, (step, state, data) in steps.items():
        text = compile_step(step, (state, params, data), place).compiled.as_text()
        counts, computation = Counter(), ""
        for line in text.splitlines():
            if begins := COMPUTATION.match(line):
                computation = begins[1]
            for shapes, kind in COLLECTIVE.findall(line):
                for shape in re.findall(r"\w+\[([\d,]*)\]", shapes):
                    counts[computation, kind, shape] += 1
        found[name] = [[*which, times] for which, times in counts.items()]
    return found


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    answer = {argument: globals()[what](argument or None) for argument in arguments}
    print(json.dumps(answer))
