"""Which leaves of a model's weights something applies to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from blomix._trees import joined

PyTree = Any


@dataclass(frozen=True)
class Leaves:
    """A set of leaves by their joined path; callable as `where(path, leaf) -> bool`.

    Two of the same paths are equal, as bound methods of two encoders are not, so that steps made of
    them are equal and compile once.
    """

    paths: frozenset[str]

    @classmethod
    def of(cls, params: PyTree, where: Callable[[Sequence, Any], bool]) -> "Leaves":
        """The leaves of `params` for which `where(path, leaf)` holds."""
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return cls(frozenset(joined(path) for path, leaf in leaves if where(path, leaf)))

    def __call__(self, path: Sequence, leaf: Any = None) -> bool:
        return joined(tuple(path)) in self.paths

    def mask(self, params: PyTree) -> PyTree:
        """True and False in the structure of `params`."""
        return jax.tree_util.tree_map_with_path(self, params)

    def pick(self, params: PyTree) -> dict[str, Any]:
        """These leaves of `params`, by their joined path."""
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return {joined(path): leaf for path, leaf in leaves if self(path)}

    def others(self, params: PyTree) -> dict[str, Any]:
        """All other leaves of `params`, by their joined path."""
        leaves = jax.tree_util.tree_leaves_with_path(params)
        return {joined(path): leaf for path, leaf in leaves if not self(path)}


def put(picked: dict[str, Any], params: PyTree) -> PyTree:
    """`params` with the leaves that `picked` has by their joined path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: picked.get(joined(path), leaf), params
    )
