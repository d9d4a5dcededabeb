"""Plans of many settings, one JSON line each: `python experiments/scale/table.py OUTPUT.jsonl`.

A setting that OUTPUT already has is not compiled again. `--markdown` compiles nothing and prints
what OUTPUT has as tables.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from blomix.errors import InputError
from blomix.parallel.chips import Topology
from blomix.parallel.mesh import Shape
from blomix.parallel.plan import Setting, plan

CONFIGS = Path(__file__).parent / "configs"
ENCODERS = ("bert-large", "xlm-r-large", "bert-base", "roberta-large")
TOPOLOGIES = ("v5e:1x1", "v5e:2x2", "v5e:4x4", "v6e:2x2")
ESTIMATORS = ("exact", "reverse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--encoders", nargs="*", default=ENCODERS)
    parser.add_argument("--topologies", nargs="*", default=TOPOLOGIES)
    parser.add_argument("--estimators", nargs="*", default=ESTIMATORS)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--unroll", type=int, default=1)
    parser.add_argument("--ensemble", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()

    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    records = [json.loads(line) for line in lines]
    if arguments.markdown:
        return print(by_devices(records), growth(records), sep="\n\n")
    done = {json.dumps(record["setting"]) for record in records}
    try:
        topologies = [Topology.parse(name) for name in arguments.topologies]
    except InputError as error:
        parser.error(str(error))
    cells = product(arguments.encoders, topologies, arguments.estimators)
    for encoder, topology, estimator in cells:
        mesh = Shape(model=topology.size)  # weights split over all chips
        setting = Setting(
            CONFIGS / f"{encoder}.json",
            topology,
            mesh,
            batch=arguments.batch_size,
            unroll=arguments.unroll,
            hypergradient=estimator,
            ensemble=arguments.ensemble,
        )
        described = {
            "encoder": encoder,
            "topology": str(topology),
            "mesh": str(mesh),
            "hypergradient": estimator,
            "batch": setting.batch,
            "length": setting.length,
            "unroll": setting.unroll,
            "ensemble": setting.ensemble,
        }
        if json.dumps(described) not in done:
            need = plan(setting, ("search",))["search"].record()
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"setting": described, "search": need}) + "\n")


USUAL = {"batch": 32, "unroll": 1, "ensemble": 1}


def by_devices(records: list[dict]) -> str:
    """A row an encoder and estimator, a column a topology."""
    usual = [r for r in records if USUAL.items() <= r["setting"].items()]
    cells = {
        tuple(r["setting"][k] for k in ("encoder", "hypergradient", "topology")): verdict(r)
        for r in usual
    }
    rows = [
        [encoder, estimator, *(cells.get((encoder, estimator, name), "") for name in TOPOLOGIES)]
        for encoder, estimator in sorted({key[:2] for key in cells})
    ]
    return table(["encoder", "hypergradient", *TOPOLOGIES], rows)


def growth(records: list[dict]) -> str:
    """All of a record, a row each."""
    names = ("encoder", "topology", "hypergradient", "batch", "unroll", "ensemble")
    kinds = ("arguments", "temporaries", "outputs")
    rows = []
    for record in records:
        need = record["search"]
        memory = (need["memory"].get(kind) for kind in kinds)
        parts = ["" if size is None else gib(size) for size in memory]
        bound = "" if need["seconds"] is None else f"{1e3 * need['seconds']:.0f}"
        setting = [record["setting"][name] for name in names]
        rows.append([*setting, verdict(record), *parts, f"{need['flops'] / 1e12:.2f}", bound])
    return table([*names, "GiB", *kinds, "TFLOP", "at least ms"], sorted(rows))


def verdict(record: dict) -> str:
    need = record["search"]
    return gib(need["bytes"]) if need["fits"] else f"**no**: {gib(need['bytes'])}"


def gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


def table(head: Sequence[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
