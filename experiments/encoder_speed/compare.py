"""Forward and training step of an encoder, blomix against torch, interleaved on the same cores.

    python experiments/encoder_speed/compare.py DIRECTORY [--batch 16] [--length 64] [--rounds 15]
                                               [--clock wall|cpu]

Each round times one call of each program in turn, so that a busy moment of the machine meets all
of them; the result is the ratio of medians, torch / blomix (above 1: blomix is faster). The
training step is loss, gradient and AdamW, with the checkpoint's dropout. Both have a thread for
each core that the process may use (`taskset -c 0` gives it one). On a machine that others use too,
take one core and `--clock cpu`, the processor time of the process.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from transformers import AutoModel

from blomix.encoders import Encoder
from blomix.runs import environment

RATE = 1e-5
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def ours(directory, batch, labels):
    """(forward, step) of blomix: each runs one call to its end."""
    encoder = Encoder.from_pretrained(directory, num_labels=2, pooling="mean")
    optimizer = optax.adamw(RATE)
    state = {
        "params": encoder.params,
        "optimizer": optimizer.init(encoder.params),
        "key": jax.random.key(0),
    }
    forward = jax.jit(encoder.apply)

    def loss(params, key):
        scores = jax.nn.log_softmax(encoder.apply(params, batch, key))
        return -jnp.mean(scores[jnp.arange(len(labels)), labels])

    def step(params, optimizer_state, key):
        key, own = jax.random.split(key)
        gradient = jax.grad(loss)(params, own)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state, key

    step = jax.jit(step, donate_argnums=(0, 1))

    def train():
        new = jax.block_until_ready(step(state["params"], state["optimizer"], state["key"]))
        state.update(zip(("params", "optimizer", "key"), new, strict=True))

    inputs = jax.tree.map(jnp.array, encoder.params)
    return lambda: forward(inputs, batch).block_until_ready(), train


def torchs(directory, batch, labels):
    """(forward, step) of torch with transformers' model, mean pooling and a linear head."""
    model = AutoModel.from_pretrained(directory)
    head = torch.nn.Linear(model.config.hidden_size, 2)
    inputs = {name: torch.tensor(value).long() for name, value in batch.items()}
    mask = inputs["attention_mask"][..., None].float()
    labels = torch.tensor(labels).long()
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)

    def logits():
        last = model(**inputs).last_hidden_state
        return head((last * mask).sum(1) / mask.sum(1))

    def forward():
        model.eval()
        with torch.no_grad():
            logits()

    def train():
        model.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(), labels).backward()
        optimizer.step()

    return forward, train


def interleaved(programs, rounds, clock):
    """Median seconds of each program, which take turns."""
    seconds = {name: [] for name in programs}
    for turn in range(rounds + 2):
        for name, program in programs.items():
            start = clock()
            program()
            if turn >= 2:  # the first two compile and warm up
                seconds[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    clock = CLOCKS[arguments.clock]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    random = np.random.default_rng(0)
    shape = (arguments.batch, arguments.length)
    ids = random.integers(1000, 20000, shape).astype(np.int32)
    batch = {"input_ids": ids, "attention_mask": np.ones(shape, np.int32)}
    labels = random.integers(0, 2, arguments.batch)
    programs = {}
    for who, build in (("blomix", ours), ("torch", torchs)):
        programs[who, "forward"], programs[who, "step"] = build(arguments.directory, batch, labels)
    medians = interleaved(programs, arguments.rounds, clock)
    result = {
        "model": Path(arguments.directory).name,
        "batch": list(shape),
        "rounds": arguments.rounds,
        "clock": arguments.clock,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "torch": torch.__version__,
        **environment.describe(),
    }
    for kind in ("forward", "step"):
        result |= {f"{who}_{kind}_seconds": medians[who, kind] for who in ("blomix", "torch")}
        result[f"{kind}_ratio"] = medians["torch", kind] / medians["blomix", kind]
    print(json.dumps(result, indent=2))


def processor() -> str:
    """What Linux says of the first core, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
