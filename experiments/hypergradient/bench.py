"""Memory, FLOPs, accuracy and time of one outer step, for every estimator, K and shape.

`python -m experiments.hypergradient.bench --out DIR`; finished cells of DIR are kept. Without
`--time` nothing is run: memory and FLOPs come from the compiled program and the traced one.
"""

import argparse
import json
import statistics
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jax.interpreters.partial_eval import dce_jaxpr

from blomix.parallel.flops import matrix_flops
from experiments.hypergradient.figure import draw
from experiments.hypergradient.setting import (
    ESTIMATORS,
    INNER,
    LOOKAHEAD,
    SHAPES,
    batch_shape,
    encoder,
    memory,
    plain_step,
    problem_of,
)

BATCH, LENGTH, VOCABULARY = 16, 64, 30522
PLAIN = "plain finetune step"


def live_matrix_flops(function, *arguments, while_turns: int = 1) -> float:
    """`matrix_flops` of what the outputs need: the compiler removes the rest as well."""
    closed = jax.make_jaxpr(function)(*arguments)
    jaxpr, used = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    inputs = [x.aval for x, is_used in zip(closed.jaxpr.invars, used, strict=True) if is_used]
    live = jaxpr_as_fun(closed.replace(jaxpr=jaxpr))
    return matrix_flops(live, *inputs, while_turns=while_turns)


class Case(NamedTuple):
    """What the cells of one group share: they differ in their estimator."""

    shape: str
    steps: int
    remat: bool
    inner: str
    scan: bool = True

    def encoder(self, abstract: bool = True):
        return encoder(self.shape, remat=self.remat, scan=self.scan, abstract=abstract)


def problem_for(case: Case, name: str, model):
    return problem_of(model, case.steps, ESTIMATORS[name], case.inner, lookahead=name == LOOKAHEAD)


def step_of(case: Case, name: str):
    """(step, abstract arguments), the state being the first argument or the first two."""
    model = case.encoder()
    if name == PLAIN:
        step, init = plain_step(model, case.inner)
        state = jax.eval_shape(init, model.params)
        key = jax.eval_shape(jax.random.key, 0)
        return step, (model.params, state, batch_shape(BATCH, LENGTH), key)
    problem = problem_for(case, name, model)
    state = jax.eval_shape(problem.init, jax.random.key(0), model.params)
    batches = batch_shape(case.steps, BATCH, LENGTH), batch_shape(BATCH, LENGTH)
    return problem.step, (state, model.params, *batches)


@cache
def compile_cell(case: Case, name: str):
    step, arguments = step_of(case, name)
    compiled = jax.jit(step).lower(*arguments).compile()
    # Conjugate gradients are a `while` loop, which with a tolerance of 0 makes all its turns.
    turns = getattr(ESTIMATORS.get(name), "iterations", 1)
    flops = live_matrix_flops(step, *arguments, while_turns=turns)
    return compiled, memory(compiled) | {"matrix_flops": flops}


def random_batch(key, *lead: int):
    ids = jax.random.randint(key, lead, 0, VOCABULARY)
    labels = jax.random.randint(key, lead[:-1], 0, 2)
    return {"input_ids": ids, "attention_mask": jnp.ones_like(ids), "labels": labels}


def run_arguments(case: Case, name: str):
    model = case.encoder(abstract=False)
    inner_key, outer_key = jax.random.split(jax.random.key(1))
    inner = random_batch(inner_key, case.steps, BATCH, LENGTH)
    if name == PLAIN:
        _, init = plain_step(model, case.inner)
        first = jax.tree.map(lambda x: x[0], inner)
        return model.params, init(model.params), first, jax.random.key(0)
    problem = problem_for(case, name, model)
    state = problem.init(jax.random.key(0), model.params)
    return state, model.params, inner, random_batch(outer_key, BATCH, LENGTH)


def accuracy(case: Case, names: list[str]) -> dict[str, dict[str, float]]:
    """Relative error and cosine of each hypergradient against the exact one."""
    model = case.encoder()

    def flat(name):
        problem = problem_for(case, name, model)
        return ravel_pytree(jax.jit(problem.hypergradient)(*arguments))[0]

    arguments = run_arguments(case, "exact")
    exact = flat("exact")
    norm = jnp.linalg.norm(exact)
    found = {name: exact if name == "exact" else flat(name) for name in names}
    return {
        name: {
            "relative_error": float(jnp.linalg.norm(x - exact) / norm),
            "cosine": float(x @ exact / (norm * jnp.linalg.norm(x))),
        }
        for name, x in found.items()
    }


def time_in_turns(compiled: dict, arguments: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each program, one after the other in every round, after one round unmeasured."""
    seconds: dict[str, list[float]] = {name: [] for name in compiled}
    for turn in range(rounds + 1):
        for name, program in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments[name]))
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def time_cells(cells: list[dict], case: Case, rounds: int) -> None:
    """Adds `seconds`, `ratio_minimum` and `ratio_median` to the plain step."""
    compiled = {c["estimator"]: compile_cell(case, c["estimator"])[0] for c in cells}
    arguments = {name: run_arguments(case, name) for name in compiled}
    seconds = time_in_turns(compiled, arguments, rounds)
    plain = seconds[PLAIN]
    for cell in cells:
        mine = seconds[cell["estimator"]]
        cell["seconds"] = mine
        cell["ratio_minimum"] = min(mine) / min(plain)
        cell["ratio_median"] = statistics.median(mine) / statistics.median(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["minilm", "bert-base"], choices=SHAPES)
    parser.add_argument("--k", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS), choices=ESTIMATORS)
    parser.add_argument("--no-remat", action="store_true", help="keep all activations of a layer")
    parser.add_argument("--unrolled", action="store_true", help="layers unrolled, not scanned")
    parser.add_argument("--inner", default="adamw", choices=INNER, help="inner optimizer")
    parser.add_argument("--time", action="store_true", help="also run, and measure the time")
    parser.add_argument("--accuracy", action="store_true", help="also run, and compare")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    remat = not options.no_remat
    layers = ("" if remat else "no-remat", "unrolled" if options.unrolled else "")
    parts = (jax.default_backend(), *layers, options.inner)
    name_of_file = "-".join(("bench", *(p for p in parts if p not in ("", "adamw"))))
    path = options.out / f"{name_of_file}.json"
    environment = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    cells = json.loads(path.read_text()) if path.exists() else []
    found = {(c["jax"], c["shape"], c["k"], c["estimator"]): c for c in cells}
    for shape, k in product(options.shapes, options.k):
        case = Case(shape, k, remat, options.inner, not options.unrolled)
        here = []
        for name in (PLAIN, *options.estimators):
            cell = found.get((jax.__version__, shape, k, name))
            if cell is None:
                cell = {"shape": shape, "k": k, "estimator": name} | environment
                cell |= compile_cell(case, name)[1]
                cells.append(cell)
                save(cells, path)
            here.append(cell)
        if options.time and any("seconds" not in cell for cell in here):
            time_cells(here, case, options.rounds)
            save(cells, path)
        rivals = [c for c in here if c["estimator"] != PLAIN and "cosine" not in c]
        if options.accuracy and rivals:
            errors = accuracy(case, [c["estimator"] for c in rivals])
            for cell in rivals:
                cell |= errors[cell["estimator"]]
            save(cells, path)
        for cell in here:
            print(json.dumps(cell), flush=True)
    draw([c for c in cells if c["jax"] == jax.__version__], path.with_suffix(".svg"))


def save(cells: list[dict], path: Path) -> None:
    path.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main()
