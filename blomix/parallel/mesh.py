"""Placing a phase on a mesh of devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from blomix.errors import InputError
from blomix.parallel import rules
from blomix.runs.processes import several


@dataclass(frozen=True)
class Shape:
    """Devices along each axis of a mesh."""

    ensemble: int = 1
    data: int = 1
    model: int = 1

    def __post_init__(self):
        for name in rules.AXES:
            if getattr(self, name) < 1:
                raise InputError(
                    f"mesh: expected {name} of at least 1, found {getattr(self, name)}"
                )

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """From `ensemble=1,data=2,model=4`, any of them left out."""
        sizes = {}
        for item in text.split(","):
            name, _, size = item.strip().partition("=")
            if name not in rules.AXES or name in sizes or not size.isdecimal():
                raise InputError(
                    f"mesh {text!r}: expected {', '.join(f'{axis}=N' for axis in rules.AXES)} "
                    f"(any of them, once), found {item.strip()!r}"
                )
            sizes[name] = int(size)
        return cls(**sizes)

    @property
    def devices(self) -> int:
        return self.ensemble * self.data * self.model

    @property
    def rows(self) -> int:
        """Parts that the rows of a batch are split into."""
        return self.data * self.model

    def __str__(self) -> str:
        return ",".join(f"{axis}={getattr(self, axis)}" for axis in rules.AXES)


@dataclass(frozen=True)
class OnMesh:
    """A `Placement` on a mesh with the axes of `rules.AXES`, after the table there."""

    mesh: Mesh

    @classmethod
    def of(cls, shape: Shape, devices: Sequence[Any] | None = None) -> "OnMesh":
        """On the first devices there are.

        Raises:
          InputError: there are fewer devices than the mesh has places, or more where they are
            those of several processes.
        """
        devices = jax.devices() if devices is None else devices
        if len(devices) < shape.devices:
            raise InputError(
                f"mesh {shape}: expected {shape.devices} devices, found {len(devices)}; "
                "give a smaller mesh"
            )
        if len(devices) > shape.devices and several():
            raise InputError(
                f"mesh {shape}: expected all {len(devices)} devices of the "
                f"{jax.process_count()} processes, found {shape.devices}"
            )
        sizes = tuple(getattr(shape, axis) for axis in rules.AXES)
        grid = np.array(devices[: shape.devices]).reshape(sizes)
        return cls(Mesh(grid, rules.AXES, axis_types=(AxisType.Auto,) * len(sizes)))

    @property
    def lane_axis(self) -> str:
        return rules.LANES

    @property
    def lanes(self) -> int:
        return self.mesh.shape[rules.LANES]

    @property
    def rows(self) -> int:
        return self.mesh.shape[rules.DATA] * self.mesh.shape[rules.MODEL]

    def sharding(self, role: str, path: tuple, leaf: Any, stacked: bool) -> NamedSharding:
        sizes = self.mesh.shape
        spec = rules.spec(role, path, leaf, stacked, sizes[rules.MODEL])
        for axis, names in enumerate(spec):
            parts = int(np.prod([sizes[name] for name in np.atleast_1d(names or ()).tolist()]))
            if leaf.shape[axis] % parts:
                what = "folds and seeds" if names == rules.LANES else "rows of a batch"
                raise InputError(
                    f"mesh: {leaf.shape[axis]} {what} cannot be split evenly over {parts} devices; "
                    f"give a mesh or a number of {what} that fits"
                )
        return NamedSharding(self.mesh, spec)

    def put(self, role: str, tree: Any, stacked: bool) -> Any:
        def leaf(path, x):
            return _put(x, self.sharding(role, path, x, stacked))

        return jax.tree_util.tree_map_with_path(leaf, tree)

    def get(self, tree: Any) -> Any:
        whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(self.mesh, rules.WHOLE))
        return jax.tree.map(lambda x: x.addressable_data(0), whole(tree))

    def scope(self):
        return jax.set_mesh(self.mesh)


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has, each of them putting its part on its own devices."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    return jax.make_array_from_callback(x.shape, sharding, lambda part: np.asarray(x)[part])
