"""From a leaf of the parameters to the torch tensors it holds, for loading and for saving."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from blomix.encoders.names import is_stacked, layer_of

_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}


@dataclass(frozen=True)
class Entry:
    """One leaf: its path, its torch names (one a layer where layers are stacked), its shape.

    torch stores a linear layer's matrix as (out, in); ours is (in, out).
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    shape: tuple[int, ...]
    stacked: bool

    @property
    def transposed(self) -> bool:
        return self.path[-1] == "kernel"

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape of each of `names` in torch."""
        own = self.shape[1:] if self.stacked else self.shape
        return own[::-1] if self.transposed else own

    def to_torch(self, leaf: Any) -> dict[str, np.ndarray]:
        """The torch tensors of a leaf, contiguous."""
        leaf = np.asarray(leaf)
        parts = leaf if self.stacked else leaf[None]
        return {
            name: np.ascontiguousarray(part.T if self.transposed else part)
            for name, part in zip(self.names, parts, strict=True)
        }

    def from_torch(self, tensors: list[np.ndarray], dtype: Any) -> np.ndarray:
        """The leaf of its torch tensors, in the order of `names`."""
        parts = [tensor.T if self.transposed else tensor for tensor in tensors]
        if self.stacked:
            return np.stack([np.asarray(part, dtype) for part in parts])
        return np.ascontiguousarray(parts[0], dtype)


def tensors(params: Any, keys: Mapping[str, str]) -> dict[str, np.ndarray]:
    """All torch tensors of the parameters that `keys` names, parts of a tensor joined."""
    found: dict[str, np.ndarray] = {}
    for entry in entries(params, keys):
        leaf = params
        for step in entry.path:
            leaf = leaf[step]
        found |= entry.to_torch(leaf)
    for name in [name for name in found if "#0/" in name]:
        whole, _, number = part_of(name)
        parts = [found.pop(f"{whole}#{i}/{number}") for i in range(number)]
        found[whole] = np.concatenate(parts)
    return found


def part_of(name: str) -> tuple[str, int, int]:
    """`name#i/n` as (name, i, n): the i-th of n equal parts of the rows; the whole is 0 of 1."""
    whole, _, part = name.partition("#")
    i, number = part.split("/") if part else ("0", "1")
    return whole, int(i), int(number)


def entries(params: Any, keys: Mapping[str, str]) -> list[Entry]:
    """The entry of every leaf (an array or a `jax.ShapeDtypeStruct`) that `keys` names.

    A part that `keys` leaves out altogether (a pooler or head stored elsewhere) is passed over.
    """
    parts = {module.split(".")[0] for module in keys}
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        names = tuple(str(step.key) for step in path)
        if names[0] in parts:
            found.append(_entry(names, leaf.shape, keys))
    return found


def _entry(path: tuple[str, ...], shape: tuple[int, ...], keys: Mapping[str, str]) -> Entry:
    def name(module: str, layer: int | str = "") -> str:
        whole, mark, part = keys[module].format(layer).partition("#")
        return f"{whole}.{_LEAVES[path[-1]]}{mark}{part}"

    if is_stacked(path):
        module = ".".join((path[0], "{}", *path[1:-1]))
        return Entry(path, tuple(name(module, i) for i in range(shape[0])), shape, stacked=True)
    layer = layer_of(path)
    if layer is None:
        return Entry(path, (name(".".join(path[:-1])),), shape, stacked=False)
    module = ".".join((path[0], "{}", *path[2:-1]))
    return Entry(path, (name(module, layer),), shape, stacked=False)
