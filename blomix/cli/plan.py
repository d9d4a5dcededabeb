"""Compile a search and a finetuning step ahead of time and say what they need of each device.

The encoder's config.json is enough, and for a TPU topology the package libtpu: no TPU is used. The
lower bound of a step's time is from the chips' public peak figures; no step can be faster.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Config:
    """Flags of `blomix plan`."""

    model: Annotated[Path, tyro.conf.Positional]
    """config.json of an encoder, or the directory it is in."""
    topology: str
    """Devices: v5e:2x2, v6e:2x4, ... or cpu:8."""
    mesh: str | None = None
    """Devices by axis, as in ensemble=1,data=2,model=4; all along data if left out."""
    batch_size: int = 32
    """Examples a step, all devices together."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, for less memory."""
    max_length: int = 128
    """Tokens an example."""
    unroll: int = 1
    """Inner steps a hypergradient goes through."""
    ensemble: int = 1
    """Folds and seeds that advance together."""
    hypergradient: str = "exact"
    """Estimator of the hypergradient: exact, reverse, ..."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the computation; weights stay float32."""
    remat: bool = True
    """Recompute each layer's activations: less memory, more time."""
    suggest: bool = False
    """Look for the cheapest setting that fits: fewest chips first, then least work."""
    quick: bool = True
    """For a TPU, end the compiler once every buffer has its place: seconds, not minutes."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from blomix.parallel import plan
    from blomix.parallel.chips import Topology
    from blomix.parallel.mesh import Shape

    topology = Topology.parse(config.topology)
    mesh = Shape(data=topology.size) if config.mesh is None else Shape.parse(config.mesh)
    setting = plan.Setting(
        config.model,
        topology,
        mesh,
        batch=config.batch_size,
        length=config.max_length,
        accumulate=config.accumulate,
        unroll=config.unroll,
        hypergradient=config.hypergradient,
        ensemble=config.ensemble,
        dtype=config.dtype,
        remat=config.remat,
        quick=config.quick,
    )
    steps = plan.plan(setting)
    result: dict[str, Any] = {
        "topology": str(topology),
        "mesh": str(mesh),
        "steps": {name: need.record() for name, need in steps.items()},
        "fits": all(need.fits for need in steps.values()),
        "flags": setting.flags,
    }
    if config.suggest:
        found = plan.cheapest(setting)
        result["cheapest"] = None if found is None else str(found[0])
    return result


def text(result: dict[str, Any]) -> str:
    lines = [f"{result['topology']}, mesh {result['mesh']}; for each device:"]
    for name, need in result["steps"].items():
        memory = ", ".join(f"{kind} {size / 2**30:.2f}" for kind, size in need["memory"].items())
        verdict = "fits" if need["fits"] else "DOES NOT FIT"
        lines.append(
            f"  {name}: {need['bytes'] / 2**30:.2f} of {need['limit'] / 2**30:.2f} GiB ({memory}), "
            f"{verdict}; {need['flops'] / 1e12:.3f} TFLOP"
            + (f", at least {1e3 * need['seconds']:.2f} ms" if need["seconds"] else "")
        )
    lines.append(f"by: blomix finetune ... {' '.join(result['flags'])}")
    if "cheapest" in result:
        lines.append(f"cheapest that fits: {result['cheapest'] or 'none up to 16 chips'}")
    return "\n".join(lines)
