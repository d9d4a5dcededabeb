"""The one module that knows Orbax: a pytree's leaves to files, and back to the same bits."""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blomix.errors import InputError

PyTree = Any
_DIRECTORY = "state"


def describe(state: PyTree) -> list[list[Any]]:
    """Path, dtype, shape and weak-typedness of every leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return [[jax.tree_util.keystr(path), *_kind(leaf)] for path, leaf in flat]


def save(directory: Path, state: PyTree) -> Callable[[], object]:
    """Start to write `state` under `directory`; the function returned waits for the end of it.

    The leaves are copied before this returns, so that their buffers may be donated at once. They
    may be jax arrays (any dtype, PRNG keys too), numpy arrays or Python numbers.
    """
    for path, _, shape, weak in describe(state):
        if weak and shape:
            raise TypeError(f"{path} has no dtype of its own (weakly typed); give it one")
    leaves = {name: _array(leaf) for name, leaf in _named(state) if np.size(leaf)}
    ocp = _orbax()

    # Directories made in the background would leave the writers waiting for them for 20 minutes
    # where they cannot be made.
    context = ocp.Context()
    context.asynchronous.create_directories_asynchronously = False
    with context, _as_os_error():
        writing = ocp.save_async(str(directory / _DIRECTORY), leaves or {"empty": np.zeros(1)})

    def wait() -> None:
        with _as_os_error():
            writing.result()

    return wait


def load(directory: Path, like: PyTree, described: list[list[Any]]) -> PyTree:
    """The saved leaves in the structure, and with the sharding, of `like`.

    Abstract leaves of `like` that name no sharding are put on the first device.

    Raises:
      InputError: naming the first leaf in which `like` and what was saved differ.
    """
    for found, expected in zip(described, describe(like), strict=False):
        if found[:3] != expected[:3]:
            raise InputError(
                f"{directory} holds {_line(found)} where this program expects {_line(expected)}: "
                "it was written by another version; choose another --run-dir"
            )
    if len(described) != len(jax.tree.leaves(like)):
        raise InputError(
            f"{directory} holds {len(described)} leaves where this program expects "
            f"{len(jax.tree.leaves(like))}: it was written by another version; "
            "choose another --run-dir"
        )
    wanted = {name: _array(leaf) for name, leaf in _named(like) if np.size(leaf)}
    ocp = _orbax()

    loaded = ocp.load(str(directory / _DIRECTORY), wanted) if wanted else {}
    leaves = [
        _restored(loaded.get(name, leaf), leaf, weak)
        for (name, leaf), (_, _, _, weak) in zip(_named(like), described, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _orbax() -> Any:
    import orbax.checkpoint.experimental.v1 as ocp

    logging.getLogger("absl").addFilter(_is_no_traceback)  # once, however often it is added
    return ocp


def _is_no_traceback(record: logging.LogRecord) -> bool:
    """Orbax logs what fails in its threads with a traceback, and raises it here as well."""
    return not record.exc_info


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """TensorStore reports the operating system's refusals as ValueErrors with its number inside."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


def _named(state: PyTree) -> list[tuple[str, Any]]:
    return [(f"{index:05d}", leaf) for index, leaf in enumerate(jax.tree.leaves(state))]


def _kind(leaf: Any) -> tuple[str, list[int], bool]:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else type(leaf).__name__
    return str(dtype), list(np.shape(leaf)), bool(getattr(leaf, "weak_type", False))


def _array(leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is None:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
    return leaf if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) else np.asarray(leaf)


def _restored(value: Any, like: Any, weak: bool) -> Any:
    if isinstance(like, bool | int | float):
        return type(like)(value)
    if isinstance(like, np.generic):
        return like.dtype.type(value)
    # A weakly typed scalar promotes otherwise than a strong one: later steps would differ.
    return jnp.asarray(value.item()) if weak else value


def _line(described: list[Any]) -> str:
    path, dtype, shape, _ = described
    return f"{path or 'the state'} {dtype}{shape}"
