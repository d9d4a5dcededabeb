"""The figure of the study: what each estimator costs as the unroll grows."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = {
    "temporaries": ("temporary memory, GB", 1e9),
    "matrix_flops": ("matrix FLOPs, 1e9", 1e9),
    "ratio_minimum": ("time, plain finetune steps", 1.0),
    "relative_error": ("error against exact, relative", 1.0),
}


def draw(cells: list[dict], path: Path) -> None:
    """One row a shape, one panel a figure that the cells hold, one line an estimator."""
    shapes = list(dict.fromkeys(c["shape"] for c in cells))
    panels = [p for p in PANELS if any(p in c for c in cells)]
    size = (4 * len(panels) + 2, 3.2 * len(shapes))
    figure, axes = plt.subplots(len(shapes), len(panels), figsize=size, squeeze=False)
    for row, shape in zip(axes, shapes, strict=True):
        for ax, panel in zip(row, panels, strict=True):
            label, unit = PANELS[panel]
            for name in dict.fromkeys(c["estimator"] for c in cells):
                points = sorted(
                    (c["k"], c[panel] / unit)
                    for c in cells
                    if c["shape"] == shape and c["estimator"] == name and panel in c
                )
                if points:
                    ax.plot(*zip(*points, strict=True), "o-", label=name)
            ax.set(xscale="log", yscale="log", xlabel="inner steps K", ylabel=label, title=shape)
    axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
