"""A tiny training loop through several phases, in the manner of the real one: for the chaos tests.

`python tests/chaos/toy.py RUN_DIR [--pause PHASE [--deaf]]`: three search phases and a finetune
phase whose start is the average of theirs. With --pause the loop waits in that phase for a signal.
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

STEPS, EVERY = 12, 4
PHASES = ("search/0", "search/1", "search/2", "finetune")


@functools.cache
def build():
    """The start state as a function of the weights, and one jitted training step."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.adamw(1e-2)

    def begin(params):
        key, half = jax.random.key(7), jnp.ones(4, jnp.bfloat16)
        return {"params": params, "optimizer": optimizer.init(params), "key": key, "half": half}

    @jax.jit
    def step(state, number):
        key, noise = jax.random.split(state["key"])
        inputs = jax.random.normal(jax.random.fold_in(noise, number), (16, 8))

        def loss(params):
            return jnp.mean((jnp.tanh(inputs @ params["w"]) @ params["v"] - inputs[:, :2]) ** 2)

        value, gradient = jax.value_and_grad(loss)(state["params"])
        updates, moments = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        half = state["half"] * 1.01
        return {"params": params, "optimizer": moments, "key": key, "half": half}, value

    return begin, step


def fresh():
    import jax

    first, second = jax.random.split(jax.random.key(0))
    return {"w": jax.random.normal(first, (8, 32)), "v": jax.random.normal(second, (32, 2))}


def open_toy(directory: Path):
    from blomix.runs import open_run

    return open_run(directory, {"steps": STEPS, "every": EVERY}, {"train": "0" * 64})


def train(directory: Path, pause: str | None = None, deaf: bool = False) -> None:
    import jax

    from blomix.runs import finite

    begin, step = build()
    with open_toy(directory) as run:
        ended = []
        for phase in PHASES:
            start = fresh()
            if phase == "finetune":
                start = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *ended)
            state, done = begin(start), 0
            if restored := run.restore(phase, state):
                done, state = restored
            for number in range(done, STEPS):
                state, loss = step(state, number)
                finite.check(number, {"loss": loss}, state)
                run.log({"phase": phase, "step": number, "loss": loss})
                if pause == phase and number == STEPS // 2:
                    print("waiting", flush=True)
                    while deaf or not run.stopping:
                        time.sleep(0.05)
                run.stop_if_asked(phase, number + 1, state)
                if (number + 1) % EVERY == 0 and number + 1 < STEPS:
                    run.save(phase, number + 1, state)
            if not run.finished(phase):
                run.save(phase, STEPS, state, final=True)
            ended.append(state["params"])
        run.wait()
        run.write_json("result.json", {"loss": loss_of(run.path), "seconds": run.elapsed})


def loss_of(directory: Path) -> float:
    return json.loads((directory / "metrics.jsonl").read_text().splitlines()[-1])["loss"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pause", choices=PHASES)
    parser.add_argument("--deaf", action="store_true", help="do not heed the first signal")
    arguments = parser.parse_args()
    train(arguments.directory, arguments.pause, arguments.deaf)
