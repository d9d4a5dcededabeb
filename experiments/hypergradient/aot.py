"""Arguments and temporaries of one outer step on TPU chips, compiled ahead of time without one.

`python -m experiments.hypergradient.aot --out DIR`, with the package `libtpu` installed.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import jax
from jax.sharding import SingleDeviceSharding

from blomix.hypergradient import Exact, FiniteDifference, Reverse
from blomix.parallel.chips import Topology
from experiments.hypergradient.setting import batch_shape, encoder, memory, problem_of

ESTIMATORS = {
    "exact": Exact(),
    "exact, 4 microbatches": Exact(microbatch=4),
    "finite difference": FiniteDifference(),
    "reverse": Reverse(),
}
LENGTH = 128


def cell(shape: str, estimator: str, batch: int, device) -> dict:
    """Bytes by kind, or what the compiler said in place of them."""
    model = encoder(shape, remat=True, dtype="bfloat16")
    problem = problem_of(model, 1, ESTIMATORS[estimator])
    state = jax.eval_shape(problem.init, jax.random.key(0), model.params)
    arguments = (state, model.params, batch_shape(1, batch, LENGTH), batch_shape(batch, LENGTH))
    place = SingleDeviceSharding(device)
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments
    )
    try:
        return memory(jax.jit(problem.step, donate_argnums=0).lower(*arguments).compile())
    except jax.errors.JaxRuntimeError as refusal:
        lines = [line for line in str(refusal).splitlines() if "hbm" in line.lower()]
        return {"refused": " ".join(lines[:2]) or str(refusal)[:300]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", nargs="+", default=["v5e:2x2", "v6e:2x2"])
    parser.add_argument("--shapes", nargs="+", default=["bert-base", "bert-large"])
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "aot.json"
    cells = json.loads(path.read_text()) if path.exists() else []
    names = ("chip", "shape", "batch", "estimator")
    done = {tuple(c[n] for n in names) for c in cells}
    for chip in options.chips:
        device = Topology.parse(chip).devices()[0]
        for case in product(options.shapes, options.batches, options.estimators):
            shape, batch, estimator = case
            if (chip, *case) in done:
                continue
            figures = cell(shape, estimator, batch, device)
            cells.append(dict(zip(names, (chip, *case), strict=True)) | figures)
            print(json.dumps(cells[-1]), flush=True)
            path.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main()
