"""Under a mesh, activations are split by rows: without this the partitioner would rather split them
by features where weights are split, and pass every row to every device. No mesh, no change."""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec, get_abstract_mesh

DATA, MODEL = "data", "model"  # the mesh axes that share out a batch; `model` splits weights too


def split_rows(x: jax.Array) -> jax.Array:
    """`x` (B, ...) with B split over both axes."""
    return _split(x, PartitionSpec((DATA, MODEL)))


def split_look_up(table: Callable[[jax.Array], jax.Array], ids: jax.Array) -> jax.Array:
    """`table(ids)` (B, S, H) of a table that `model` splits by features: each device looks up its
    features for all rows of its `data` part, then rows change places. The table never moves."""
    x = table(_split(ids, PartitionSpec(DATA)))
    return split_rows(_split(x, PartitionSpec(DATA, None, MODEL)))


def _split(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    return x if get_abstract_mesh().empty else jax.lax.with_sharding_constraint(x, spec)
