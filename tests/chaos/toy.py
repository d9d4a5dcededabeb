"""A tiny training loop through several phases, in the manner of the real one: for the chaos tests.

`python tests/chaos/toy.py RUN_DIR [--pause PHASE]`: three search phases and a finetune phase whose
start is the average of theirs. With --pause the loop waits in that phase for a signal.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

STEPS, EVERY = 12, 4
PHASES = ("search/0", "search/1", "search/2", "finetune")


def digest(tree) -> str:
    """sha256 over path, dtype, shape and bytes of every leaf."""
    import jax
    import numpy as np

    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        value = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)}{value.dtype}{value.shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()


def train(directory: Path, pause: str | None = None) -> None:
    import jax
    import jax.numpy as jnp
    import optax

    from blomix.runs import finite, open_run

    optimizer = optax.adamw(1e-2)

    def begin(params):
        return {
            "params": params,
            "optimizer": optimizer.init(params),
            "key": jax.random.key(7),
            "half": jnp.ones(4, jnp.bfloat16),
        }

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

    keys = jax.random.split(jax.random.key(0))
    fresh = {"w": jax.random.normal(keys[0], (8, 32)), "v": jax.random.normal(keys[1], (32, 2))}
    with open_run(directory, {"steps": STEPS, "every": EVERY}, {"train": "0" * 64}) as run:
        ended = []
        for phase in PHASES:
            start = fresh
            if phase == "finetune":
                start = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *ended)
            state, done = begin(start), 0
            if restored := run.restore(phase, state):
                done, state = restored
            for number in range(done, STEPS):
                state, loss = step(state, number)
                finite.check(number, {"loss": loss}, state)
                run.log({"phase": phase, "step": number, "loss": loss})
                while pause == phase and number == STEPS // 2 and not run.stopping:
                    print("waiting", flush=True)
                    time.sleep(0.05)
                run.stop_if_asked(phase, number + 1, state)
                if (number + 1) % EVERY == 0 and number + 1 < STEPS:
                    run.save(phase, number + 1, state)
            if not run.finished(phase):
                run.save(phase, STEPS, state, final=True)
            ended.append(state["params"])
        run.wait()
        run.write_json("result.json", {"weights": digest(state), "seconds": run.elapsed})


def outcome(directory: Path) -> dict:
    """Everything that must be equal between a broken and an unbroken run."""
    result = json.loads((directory / "result.json").read_text())
    result.pop("seconds")
    return {"result": result, "metrics": (directory / "metrics.jsonl").read_text()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pause", choices=PHASES)
    arguments = parser.parse_args()
    train(arguments.directory, arguments.pause)
