"""Several processes that compute as one: what they tell one another outside of the compiled steps.

All of them run the same program and call the functions below in the same order. A single process
hears itself alone, at once.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from blomix.errors import InputError

T = TypeVar("T")


def several() -> bool:
    """Whether this process is one of many; does not touch a device where it is alone."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that logs, prints and writes reports."""
    return not several() or jax.process_index() == 0


def exchange(value: T) -> list[T]:
    """The `value` of every process, any JSON, in the order of the processes."""
    if not several():
        return [value]
    from jax.experimental.multihost_utils import process_allgather

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(np.max(process_allgather(np.int32(text.size))))
    room = 1 << longest.bit_length()  # few lengths, since each compiles a program
    padded = np.pad(text, (0, room - text.size), constant_values=ord(" "))
    return [json.loads(bytes(row)) for row in np.asarray(process_allgather(padded))]


def told(value: T) -> T:
    """The first process's `value`, any JSON."""
    return exchange(value)[0]


def asked_by_any(value: T | None) -> T | None:
    """The first `value` that is not None, in the order of the processes."""
    return next((told for told in exchange(value) if told is not None), None)


def agreed(compute: Callable[[], T]) -> T:
    """`compute()`; an InputError of one process is raised in all."""
    if not several():
        return compute()
    try:
        value = compute()
    except InputError as error:
        exchange(str(error))
        raise
    message = asked_by_any(None)
    if message is not None:
        raise InputError(message)
    return value


class Ballot:
    """Whether any process asks for something.

    All hear of it at the same call, which is the next one where there are several: so the answer is
    there by then, and no process waits for it.
    """

    def __init__(self):
        self._last: jax.Array | None = None

    def __call__(self, asks: bool) -> bool:
        if not several():
            return asks
        last, self._last = self._last, _any(asks)
        return last is not None and bool(last)


def _any(asks: bool) -> jax.Array:
    split, count = _counting()
    return count(
        jax.make_array_from_callback((jax.device_count(),), split, lambda _: np.array([asks]))
    )


@lru_cache(maxsize=1)
def _counting() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    mesh = Mesh(np.array(jax.devices()), "everywhere")
    split, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (mesh.axis_names, ()))
    return split, jax.jit(jnp.any, out_shardings=whole)


@contextmanager
def leaving_together() -> Iterator[None]:
    """Ends this process with exit code 1 and one line where a computation of several breaks off.

    That is how the loss of one of them shows in the others. Nothing can be agreed on or saved after
    it, and JAX's own exit would wait for the lost one.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not several():
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0]
        print(
            f"blomix: process {jax.process_index()} of {jax.process_count()} cannot go on, most "
            f"likely because another one was lost ({reason[:300]}). Checkpoints are kept: run the "
            "same command again, in as many processes or in others",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
