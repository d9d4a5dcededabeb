"""What one checkpoint costs the training it interrupts; prints JSON lines. See README.md."""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from blomix.runs import open_run

VOCABULARY, HIDDEN, FEED_FORWARD = 30522, 384, 1536  # the weights of MiniLM
EVERY = 60.0  # seconds between checkpoints, the default of `blomix finetune`


def make(layers: int):
    """A state of the size of MiniLM (weights, Adam moments) and a step of a like cost."""
    keys = iter(jax.random.split(jax.random.key(0), 64))

    def matrix(*shape):
        return jax.random.normal(next(keys), shape) / shape[0] ** 0.5

    params = {"table": matrix(VOCABULARY, HIDDEN), "out": matrix(HIDDEN, 2)}
    for layer in range(layers):
        params[f"attention/{layer}"] = matrix(HIDDEN, 4 * HIDDEN)
        params[f"up/{layer}"] = matrix(HIDDEN, FEED_FORWARD)
        params[f"down/{layer}"] = matrix(FEED_FORWARD, HIDDEN)
    optimizer = optax.adamw(1e-4)

    def loss(params, tokens):
        x = params["table"][tokens]
        for layer in range(layers):
            q, k, v, o = jnp.split(params[f"attention/{layer}"], 4, axis=1)
            weights = jax.nn.softmax((x @ q) @ (x @ k).swapaxes(1, 2) / HIDDEN**0.5)
            x = x + weights @ (x @ v) @ o
            x = x + jax.nn.gelu(x @ params[f"up/{layer}"]) @ params[f"down/{layer}"]
            x = x / jnp.linalg.norm(x, axis=-1, keepdims=True) * HIDDEN**0.5
        return (x.mean(1) @ params["out"]).var()

    def step(state, tokens):
        params, moments = state
        gradient = jax.grad(loss)(params, tokens)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    return (params, optimizer.init(params)), jax.jit(step, donate_argnums=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="steps a block")
    parser.add_argument("--blocks", type=int, default=9, help="blocks with and without a save")
    arguments = parser.parse_args()
    state, step = make(layers=6)
    tokens = jax.random.randint(jax.random.key(1), (16, 64), 0, VOCABULARY)
    state = jax.block_until_ready(step(state, tokens))
    wall: dict[bool, list[float]] = {True: [], False: []}
    processor: dict[bool, list[float]] = {True: [], False: []}
    blocked = []
    with tempfile.TemporaryDirectory() as directory, open_run(directory, {}, {}) as run:
        run.restore("finetune", state)
        for block in range(2 * arguments.blocks):
            saves = block % 2 == 1
            jax.block_until_ready(state)
            clock, cpu = time.monotonic(), time.process_time()
            for number in range(arguments.steps):
                state = step(state, tokens)
                if saves and number == 0:
                    jax.block_until_ready(state)
                    began = time.monotonic()
                    run.save("finetune", block, state)
                    blocked.append(time.monotonic() - began)
            jax.block_until_ready(state)
            run.wait()  # what of the save did not fit beside the steps counts as well
            wall[saves].append(time.monotonic() - clock)
            processor[saves].append(time.process_time() - cpu)
    for name, times in (("wall", wall), ("processor", processor)):
        plain, saving = (statistics.median(times[kind]) for kind in (False, True))
        step_seconds = plain / arguments.steps
        record = {
            "clock": name,
            "step": step_seconds,
            "save": saving - plain,
            "save_in_steps": (saving - plain) / step_seconds,
            "share_at_one_save_a_minute": (saving - plain) / EVERY,
        }
        print(json.dumps(record))
    bytes_saved = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    print(json.dumps({"blocked": statistics.median(blocked), "bytes": bytes_saved}))


if __name__ == "__main__":
    main()
