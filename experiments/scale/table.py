"""Plans of many settings, one JSON line each: `python experiments/scale/table.py OUTPUT.jsonl`.

A setting that OUTPUT already has is not compiled again.
"""

import argparse
import json
from itertools import product
from pathlib import Path

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
    arguments = parser.parse_args()

    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    done = {json.dumps(json.loads(line)["setting"]) for line in lines}
    cells = product(arguments.encoders, arguments.topologies, arguments.estimators)
    for encoder, name, estimator in cells:
        topology = Topology.parse(name)
        # One lane: weights split over all chips. Several: each chip has whole weights, for
        # lanes multiply the state anyway.
        split = arguments.ensemble == 1
        mesh = Shape(model=topology.size) if split else Shape(data=topology.size)
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
            "topology": name,
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


if __name__ == "__main__":
    main()
