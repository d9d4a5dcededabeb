"""What a leaf of the parameters is, by its path: the same names in every family.

Paths are as `jax.tree_util` gives them, or tuples of strings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

MATRICES = (
    "query",
    "key",
    "value",
    "attention_output",
    "cross_query",
    "cross_key",
    "cross_value",
    "cross_output",
    "feed_forward_in",
    "feed_forward_gate",
    "feed_forward_out",
)


def steps(path: Sequence[Any]) -> tuple[str, ...]:
    """A path as plain strings."""
    return tuple(str(getattr(step, "key", step)) for step in path)


def is_matrix(path: Sequence[Any]) -> bool:
    """Whether the leaf is the kernel of one of a layer's matrices, or of the pooler."""
    *_, module, leaf = ("", *steps(path))
    return leaf == "kernel" and module in (*MATRICES, "pooler")


def is_decayed(path: Sequence[Any]) -> bool:
    """Whether weight decay is usual: on kernels and tables, not on biases and LayerNorm."""
    return steps(path)[-1] in ("kernel", "embedding")


def is_stacked(path: Sequence[Any]) -> bool:
    """Whether the leaf holds all layers, on its leading axis."""
    names = steps(path)
    return names[0].endswith("layers") and not names[1].isdigit()


def layer_of(path: Sequence[Any]) -> int | None:
    """The layer's number; None outside the layers, and where layers are stacked in one leaf."""
    names = steps(path)
    return int(names[1]) if names[0].endswith("layers") and not is_stacked(names) else None


def by_layer(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by their joined path; one of stacked layers as one a layer, by the path that this has
    where layers are not stacked."""
    found = {}
    for path, leaf in leaves.items():
        part, *rest = path.split("/")
        if is_stacked((part, *rest)):
            found |= {"/".join((part, str(i), *rest)): own for i, own in enumerate(leaf)}
        else:
            found[path] = leaf
    return found


def matrix_of(path: Sequence[Any]) -> str:
    """A plain name of the module that a leaf belongs to, such as "feed-forward in"."""
    names = steps(path)
    module = f"decoder {names[-2]}" if names[0] == "decoder_layers" else names[-2]
    return module.replace("feed_forward", "feed-forward").replace("_", " ")
