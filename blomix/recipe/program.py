"""A phase's step as one compiled program: built once for all lanes, timed, and measured."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from blomix.recipe.phase import Phase, PyTree


class Placement(Protocol):
    """Which devices hold what of a phase. Hashable, so that equal steps compile once.

    What a leaf is to the step, its `role`, is "state", "shared", "batch" or "metrics"; `stacked`
    says that it carries all lanes on its leading axis.
    """

    @property
    def lane_axis(self) -> str | None:
        """The mesh axis that stacked lanes are split over."""
        ...

    @property
    def lanes(self) -> int:
        """Parts that stacked lanes are split into."""
        ...

    @property
    def rows(self) -> int:
        """Parts that the rows of a batch are split into."""
        ...

    def sharding(self, role: str, path: tuple, leaf: Any, stacked: bool) -> Any:
        """Where a leaf lives, by its path in the tree and its shape."""
        ...

    def put(self, role: str, tree: PyTree, stacked: bool) -> PyTree:
        """A tree of arrays on their devices."""
        ...

    def get(self, tree: PyTree) -> PyTree:
        """A phase's result, whole, where this process can read it."""
        ...

    def scope(self) -> AbstractContextManager:
        """Where steps are traced."""
        ...


@dataclass(frozen=True)
class OneDevice:
    """Everything on JAX's default device, moved there by the compiled program itself."""

    lane_axis = None
    lanes = 1
    rows = 1

    def sharding(self, role, path, leaf, stacked):
        return None

    def put(self, role, tree, stacked):
        return tree

    def get(self, tree):
        return tree

    def scope(self):
        return nullcontext()


ONE_DEVICE = OneDevice()


@dataclass(frozen=True)
class Program:
    """A compiled step.

    Attributes:
      compiled: `(state, shared, batch) -> (state, metrics)`; it consumes the state.
      seconds: what compiling took.
      announced: phases that a line said this of.
    """

    compiled: Any
    seconds: float
    announced: list[str] = field(default_factory=list)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes a device, by the compiler's account: arguments, temporaries, and those outputs that
        do not take an argument's place."""
        memory = self.compiled.memory_analysis()
        return {
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        }

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())


def build(phase: Phase, place: Placement = ONE_DEVICE, stacked: bool = False) -> Program:
    """Compiles the step of `phase` from shapes alone: nothing is allocated and nothing runs."""
    state = jax.eval_shape(phase.lanes[0])
    return compile_step(phase.step, (state, phase.shared, phase.batch(0, 0)), place, stacked)


def compile_step(
    step: Callable, arguments: tuple, place: Placement = ONE_DEVICE, stacked: bool = False
) -> Program:
    """Compiles a step for a state, shared arrays and a batch like `arguments` (shapes will do)."""
    roles = zip(("state", "shared", "batch"), arguments, strict=True)
    shapes = tuple(placed(place, role, tree, stacked) for role, tree in roles)
    leaves, structure = jax.tree.flatten(shapes)
    return _compile(step, place, stacked, structure, tuple(leaves))


def placed(place: Placement, role: str, tree: PyTree, stacked: bool) -> PyTree:
    """The shapes of a tree, with where its leaves live."""

    def leaf(path, x):
        sharding = place.sharding(role, path, x, stacked)
        weak = getattr(x, "weak_type", False)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding, weak_type=weak)

    return jax.tree_util.tree_map_with_path(leaf, tree)


@lru_cache(maxsize=32)
def _compile(step, place: Placement, stacked: bool, structure, leaves: tuple) -> Program:
    shapes = jax.tree.unflatten(structure, leaves)
    # A state comes out where it went in, for the next step takes it.
    state = jax.tree.map(lambda x: x.sharding, shapes[0])
    out = (state, place.sharding("metrics", (), None, stacked))
    started = time.monotonic()
    with place.scope():
        compiled = jax.jit(step, donate_argnums=0, out_shardings=out).lower(*shapes).compile()
    return Program(compiled, time.monotonic() - started)


def merge(phases: list[Phase]) -> Phase:
    """One phase with the lanes of all: the lanes of the first, then of the second, and so on.

    Raises:
      ValueError: the phases are not equal but for their lanes.
    """
    first, each = phases[0], len(phases[0].lanes)
    for phase in phases:
        if (phase.step, phase.steps, len(phase.lanes)) != (first.step, first.steps, each):
            raise ValueError(f"phase {first.name}: these runs cannot advance in lockstep")
    return replace(
        first,
        lanes=[lane for phase in phases for lane in phase.lanes],
        batch=lambda lane, t: phases[lane // each].batch(lane % each, t),
        rows=lambda lane, t: phases[lane // each].rows(lane % each, t),
    )


def stack(phase: Phase, lanes: range, place: Placement = ONE_DEVICE) -> Phase:
    """A phase of one lane whose leaves carry `lanes` on a leading axis."""
    return replace(
        phase,
        step=vmapped(phase.step, place.lane_axis),
        lanes=[lambda: _stacked([phase.lanes[i]() for i in lanes])],
        batch=lambda _, t: jax.tree.map(
            lambda *x: np.stack(x), *(phase.batch(i, t) for i in lanes)
        ),
        rows=lambda _, t: [row for i in lanes for row in phase.rows(i, t)],
        result=jax.vmap(phase.result),
    )


# The next three are compiled: states have many leaves, and eagerly each of them is a call, on an
# accelerator also, the first time, a compilation.


@jax.jit
def _stacked(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def unstacked(tree: PyTree) -> list[PyTree]:
    """The lanes of a tree that carries them on its leading axis."""
    lanes = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(lanes)]


@jax.jit
def copied(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.copy, tree)


@lru_cache(maxsize=32)
def vmapped(step: Callable, lane_axis: str | None = None) -> Callable:
    """The step of all lanes at once, which share its second argument."""
    return jax.vmap(step, in_axes=(0, None, 0), spmd_axis_name=lane_axis)


def device_memory(of_host: float = 0.5) -> int:
    """Bytes that programs may take: an accelerator's own limit, or a share of the host's memory."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    return int(of_host * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def check_fits(program: Program, name: str) -> None:
    """Raises MemoryError where a step takes more than there is, before it is run: a host would
    begin to swap, and then kill the process without a word."""
    needed, room = program.bytes, device_memory(of_host=1)
    if needed > room:
        raise MemoryError(f"{name} takes {needed / 1e9:.1f} GB, and there are {room / 1e9:.1f}")
