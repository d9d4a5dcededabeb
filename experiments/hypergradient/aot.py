"""Arguments and temporaries of one outer step on TPU chips, compiled ahead of time without one.

`python -m experiments.hypergradient.aot --out DIR`, with the package `libtpu` installed. The
compiler is ended once every buffer has its place; `--whole` lets it go on, for minutes a cell.
`--markdown` compiles nothing and prints what is there.
"""

import argparse
import json
from itertools import product
from pathlib import Path

import jax
from jax.sharding import SingleDeviceSharding

from blomix.errors import InputError
from blomix.hypergradient import Exact, FiniteDifference, Reverse
from blomix.parallel import early
from blomix.parallel.chips import Topology
from blomix.parallel.plan import bytes_wanted
from experiments.hypergradient.setting import batch_shape, encoder, memory, problem_of

ESTIMATORS = {
    "exact": Exact(),
    "exact, 4 microbatches": Exact(microbatch=4),
    "finite difference": FiniteDifference(),
    "reverse": Reverse(),
}
LENGTH = 128


def cell(chip: str, shape: str, batch: int, estimator: str) -> dict:
    """Bytes by kind (the state is donated: outputs are those that take no argument's place), or
    what the compiler said in place of them."""
    model = encoder(shape, remat=True, dtype="bfloat16")
    problem = problem_of(model, 1, ESTIMATORS[estimator])
    state = jax.eval_shape(problem.init, jax.random.key(0), model.params)
    arguments = (state, model.params, batch_shape(1, batch, LENGTH), batch_shape(batch, LENGTH))
    place = SingleDeviceSharding(Topology.parse(chip).devices()[0])
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), arguments
    )
    try:
        found = memory(jax.jit(problem.step, donate_argnums=0).lower(*arguments).compile())
    except jax.errors.JaxRuntimeError as refusal:
        lines = [line for line in str(refusal).splitlines() if "hbm" in line.lower()]
        return {"refused": " ".join(lines[:2]) or str(refusal)[:300]}
    found["outputs"] -= found.pop("aliased")
    return found


def markdown(cells: list[dict]) -> str:
    """GB of temporaries + arguments: a row a chip, encoder and batch, a column an estimator."""
    rows = {(c["chip"], c["shape"], c["batch"]): {} for c in cells}
    for c in cells:
        if "temporaries" in c:
            text = f"{c['temporaries'] / 1e9:.2f} + {c['arguments'] / 1e9:.2f}"
        else:
            text = f"no: {bytes_wanted(RuntimeError(c['refused'])) / 1e9:.2f}"
        rows[c["chip"], c["shape"], c["batch"]][c["estimator"]] = text
    lines = [["chip", "encoder", "batch", *ESTIMATORS], ["---"] * (3 + len(ESTIMATORS))]
    for (chip, *case), texts in sorted(rows.items()):
        lines.append([chip.split(":")[0], *case, *(texts.get(name, "") for name in ESTIMATORS)])
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", nargs="+", default=["v5e:2x2", "v6e:2x2"])
    parser.add_argument("--shapes", nargs="+", default=["bert-base", "bert-large"])
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    try:
        for chip in options.chips:
            Topology.parse(chip)
    except InputError as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "aot.json"
    cells = json.loads(path.read_text()) if path.exists() else []
    if options.markdown:
        return print(markdown(cells))
    from experiments.hypergradient import aot  # not __main__, which another process cannot import

    names = ("chip", "shape", "batch", "estimator")
    done = {tuple(c[n] for n in names) for c in cells}
    for case in product(options.chips, options.shapes, options.batches, options.estimators):
        if case in done:
            continue
        figures = aot.cell(*case) if options.whole else early.memory(aot.cell, *case)
        cells.append(dict(zip(names, case, strict=True)) | figures)
        print(json.dumps(cells[-1]), flush=True)
        path.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main()
