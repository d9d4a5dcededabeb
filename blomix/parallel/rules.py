"""Which axis of which leaf is split over a mesh: one table from paths to `PartitionSpec`.

The mesh has three axes. `ensemble` splits stacked lanes (folds, seeds). `data` and `model` together
split the rows of a batch; `model` moreover splits every matrix (fully sharded training: Rajbhandari
et al., ZeRO, SC 2020, arXiv:1910.02054): a device keeps its part of the weights, of the optimizer's
moments and of a dense alpha, and the whole of a layer's weights exists only while that layer runs.

A leaf is known by the end of its path, so that what mirrors the weights (task weights, moments,
dense alpha) follows the same rule wherever it is kept.
"""

import re
from typing import Any

from jax.sharding import PartitionSpec
from jax.tree_util import keystr

from blomix.encoders.rows import DATA, MODEL

LANES = "ensemble"
AXES = (LANES, DATA, MODEL)
WHOLE = PartitionSpec()  # a copy on every device

# End of the path -> the axis, from the last, that `model` splits; None: whole on every device. The
# first that matches and divides evenly counts.
RULES: tuple[tuple[str, int | None], ...] = (
    # By features: a look-up then moves rows, never the table.
    (r"token/embedding$", -1),
    # In or out, so that each of a layer's two halves starts with a split output.
    (r"(attention_output|feed_forward_out)/kernel$", -2),
    (r"kernel$", -1),
    (r"kernel$", -2),
    # Small tables, biases, LayerNorm, factors of a low-rank alpha, counters, keys.
    (r"", None),
)


def spec(role: str, path: tuple, leaf: Any, stacked: bool, model: int) -> PartitionSpec:
    """How one leaf is split.

    Args:
      role: "state", "shared", "batch" or "metrics".
      path: the leaf's path, as `jax.tree_util` gives it.
      leaf: anything with a shape.
      stacked: whether the leaf has an axis of lanes in front (never for "shared").
      model: devices along `model`.
    """
    if role == "metrics":
        return WHOLE
    front = (LANES,) if stacked and role != "shared" else ()
    if role == "batch":
        # The inner batches of a search have an axis of unrolled steps before that of rows.
        steps = (None,) if "inner" in keystr(path) else ()
        return PartitionSpec(*front, *steps, (DATA, MODEL))
    axis = _split(keystr(path, simple=True, separator="/"), leaf.shape[len(front) :], model)
    if axis is None:
        return PartitionSpec(*front)
    rest: list[str | None] = [None] * (len(leaf.shape) - len(front))
    rest[axis] = MODEL
    return PartitionSpec(*front, *rest)


def _split(path: str, shape: tuple[int, ...], model: int) -> int | None:
    for pattern, axis in RULES:
        if re.search(pattern, path) and (
            axis is None or (len(shape) >= 2 and shape[axis] % model == 0)
        ):
            return axis
    return None
