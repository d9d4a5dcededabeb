"""Draws results/cola.json: python -m experiments.hypergradient_error.figure"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent


def main() -> None:
    records = json.loads((HERE / "results" / "cola.json").read_text())["records"]
    names = list(dict.fromkeys(record["estimator"] for record in records))
    panels = {
        "relative_error": "relative error",
        "cosine": "cosine with the exact hypergradient",
        "indirect_cosine": "cosine of the indirect part",
    }
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), sharey=True, layout="constrained")
    for axis, (field, label) in zip(axes, panels.items(), strict=True):
        for row, name in enumerate(names):
            values = [record[field] for record in records if record["estimator"] == name]
            axis.plot(values, np.full(len(values), row), "o", color="tab:blue", alpha=0.4)
            axis.plot(np.median(values), row, "|", color="black", markersize=16)
        axis.set_xlabel(label)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_xscale("log")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.savefig(HERE / "results" / "cola.png", dpi=120)


if __name__ == "__main__":
    main()
