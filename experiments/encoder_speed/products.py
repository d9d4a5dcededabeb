"""An encoder's products with weights alone, XLA's against torch's, in turn on the same cores.

    python experiments/encoder_speed/products.py DIRECTORY [--batch 16] [--length 64] [--rounds 15]

The products of the layers with their weights, one after the other as in a forward pass and nothing
between them, are the floor of that pass: prints seconds (medians) and GFLOP/s of both.
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from compare import interleaved


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = json.loads((arguments.directory / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    rows, layers = arguments.batch * arguments.length, config["num_hidden_layers"]
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    draw = np.random.default_rng(0)
    x = draw.standard_normal((rows, hidden), np.float32)
    kernels = [
        [draw.standard_normal(s, np.float32) / np.float32(3 * s[0]) ** 0.5 for s in shapes]
        for _ in range(layers)
    ]

    def chain(x, layers, product):
        for query, key, value, output, into, out in layers:
            x = product(x, query) + product(x, key) + product(x, value)
            x = product(product(product(x, output), into), out)
        return x

    ours = jax.tree.map(jnp.asarray, (x, kernels))
    run = jax.jit(lambda x, kernels: chain(x, kernels, jnp.matmul))
    theirs = torch.tensor(x), [[torch.tensor(w.T.copy()) for w in layer] for layer in kernels]
    programs = {
        "xla": lambda: run(*ours).block_until_ready(),
        "torch": lambda: chain(*theirs, torch.nn.functional.linear),
    }
    flops = 2 * rows * layers * sum(k * n for k, n in shapes)
    for name, median in interleaved(programs, arguments.rounds, time.perf_counter).items():
        print(f"{name:6s} {median:.3f} s  {flops / median / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
