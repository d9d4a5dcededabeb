"""Time of a search step for several lanes: together in one compiled step against one by one.

    python experiments/scale/ensemble.py --hidden 64 --layers 2 --lanes 5
    python experiments/scale/ensemble.py --model DIR --lanes 40 --batch-size 16 --max-length 64

Without --model the encoder has random weights of the given size. Blocks of both kinds alternate and
the median ratio is printed, with the compiler's bytes for each. Runs on any device JAX finds.
"""

import argparse
import json
import statistics
import time
from functools import partial

import jax
import numpy as np

from blomix.data import Examples
from blomix.encoders import Encoder
from blomix.recipe.job import Job
from blomix.recipe.phase import Phase
from blomix.recipe.program import build, stack
from blomix.recipe.recipe import Recipe, SearchStep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="directory of an encoder; random weights if left out")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()

    phase = search(arguments)
    stacked = stack(phase, range(arguments.lanes))
    programs = {"alone": build(phase), "together": build(stacked, stacked=True)}
    batch = {"alone": phase.batch(0, 0), "together": stacked.batch(0, 0)}
    states = {
        "alone": [lane() for lane in phase.lanes],
        "together": [stacked.lanes[0]()],
    }
    shared = jax.device_put(phase.shared)
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for block in range(arguments.blocks + 1):
        for name, program in programs.items():
            started = time.perf_counter()
            for _ in range(arguments.steps):
                for i, state in enumerate(states[name]):
                    states[name][i], _ = program.compiled(state, shared, batch[name])
            jax.block_until_ready(states[name])
            if block:  # the first one warms up
                seconds[name].append((time.perf_counter() - started) / arguments.steps)
    pairs = zip(seconds["alone"], seconds["together"], strict=True)
    record = vars(arguments) | {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "seconds_alone": statistics.median(seconds["alone"]),
        "seconds_together": statistics.median(seconds["together"]),
        "alone_over_together": statistics.median(alone / both for alone, both in pairs),
        "bytes_alone": programs["alone"].memory,
        "bytes_together": programs["together"].memory,
    }
    print(json.dumps(record))


def search(arguments: argparse.Namespace) -> Phase:
    """A search over random tokens, one lane a fold or seed."""
    encoder = encoder_of(arguments)
    draw = np.random.default_rng(0)
    shape = (arguments.batch_size, arguments.max_length)

    def rows(front: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
        ids = draw.integers(0, encoder.architecture.vocab_size, (*front, *shape))
        labels = draw.integers(0, 2, (*front, shape[0]))
        arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}
        return {name: array.astype(np.int32) for name, array in arrays.items()}

    recipe = Recipe()
    job = Job(encoder, Examples(()), {}, 0, arguments.max_length)
    problem = recipe.problem(job, recipe.mixup(job), 1000)
    batch = {"inner": rows((1,)), "outer": rows()}
    return Phase(
        name="search",
        step=SearchStep(problem),
        lanes=[
            partial(problem.init, jax.random.key(lane), encoder.params)
            for lane in range(arguments.lanes)
        ],
        shared=encoder.params,
        batch=lambda lane, t: batch,
        rows=lambda lane, t: [],
        steps=1000,
    )


def encoder_of(arguments: argparse.Namespace) -> Encoder:
    if arguments.model:
        return Encoder.from_pretrained(arguments.model, 2)
    config = {
        "model_type": "bert",
        "vocab_size": 1000,
        "hidden_size": arguments.hidden,
        "num_hidden_layers": arguments.layers,
        "num_attention_heads": 4,
        "intermediate_size": 4 * arguments.hidden,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    }
    return Encoder.from_config(config, 2)


if __name__ == "__main__":
    main()
