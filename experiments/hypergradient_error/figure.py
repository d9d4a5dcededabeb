"""Draws results/cola.json: python -m experiments.hypergradient_error.figure"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main() -> None:
    records = json.loads((HERE / "results" / "cola.json").read_text())["records"]
    names = list(dict.fromkeys(record["estimator"] for record in records))
    panels = {
        "relative_error": "relative error",
        "cosine": "cosine with the exact hypergradient",
        "indirect_cosine": "cosine of the indirect part",
    }
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.6), layout="constrained")
    for axis, (field, label) in zip(axes, panels.items(), strict=True):
        for number, name in enumerate(names):
            points = [(r["step"], r[field]) for r in records if r["estimator"] == name]
            style = "o--" if "no dropout" in name else "o-"
            axis.plot(*zip(*points, strict=True), style, color=f"C{number % 10}", label=name)
        axis.set(xlabel="outer step", ylabel=label)
        axis.set_xscale("symlog", linthresh=1)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(HERE / "results" / "cola.png", dpi=120)


if __name__ == "__main__":
    main()
