"""Small helpers on pytrees of weights."""

from typing import Any

import jax
import jax.numpy as jnp

from blomix.errors import InputError

PyTree = Any


def joined(path: tuple) -> str:
    """A `jax.tree_util` key path as `a/b/0/c`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def check_like(name: str, tree: PyTree, expected: PyTree) -> None:
    """Raises InputError, by path, unless `tree` has the leaves and the shapes of `expected`."""
    found, wanted = by_path(tree), by_path(expected)
    for path, leaf in wanted.items():
        if path not in found:
            raise InputError(f"{name} lacks the leaf {path!r}; it has {few(found)}")
        if jnp.shape(found[path]) != jnp.shape(leaf):
            raise InputError(
                f"{name}: the leaf {path!r} should have shape {jnp.shape(leaf)}, "
                f"found {jnp.shape(found[path])}"
            )
    for path in found:
        if path not in wanted:
            raise InputError(f"{name} has the extra leaf {path!r}; expected {few(wanted)}")


def few(names: dict) -> str:
    listed = ", ".join(repr(name) for name in list(names)[:8])
    return (listed or "no leaves") + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def by_path(tree: PyTree) -> dict[str, Any]:
    return {joined(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def split_floats(tree: PyTree) -> tuple[PyTree, PyTree]:
    """The float leaves and the other ones, each a tree like `tree` with None in the gaps."""
    floats = jax.tree.map(lambda x: x if is_float(x) else None, tree)
    others = jax.tree.map(lambda x: None if is_float(x) else x, tree)
    return floats, others


def merge(floats: PyTree, others: PyTree) -> PyTree:
    """Undoes `split_floats`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, floats, others, is_leaf=lambda x: x is None
    )
