"""What the makers say of their chips, and topologies by name."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from blomix.errors import InputError


@dataclass(frozen=True)
class Chip:
    """Public peak figures of one chip.

    Attributes:
      flops: dense bfloat16 FLOP/s. A float32 product is no faster.
      bandwidth: bytes/s of its memory.
      memory: bytes that a program may take; None where the chip has no memory of its own.
    """

    name: str
    flops: float
    bandwidth: float
    memory: int | None


GIB = 2**30

# https://cloud.google.com/tpu/docs/v5e and .../v6e: peak compute (bf16) and HBM bandwidth per chip.
# Of the 16 and 32 GB of memory the compiler leaves a program 15.75 and 31.25 GiB.
CHIPS = {
    "v5e": Chip("TPU v5e", 197e12, 819e9, int(15.75 * GIB)),
    "v6e": Chip("TPU v6e", 918e12, 1640e9, int(31.25 * GIB)),
}


_MOST_PROCESSORS = 1024  # each takes threads and memory


@dataclass(frozen=True)
class Topology:
    """Chips of one kind that are wired together, such as `v5e:4x4`, or `cpu:8`."""

    kind: str
    grid: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Topology":
        match = re.fullmatch(r"(cpu):([1-9]\d*)|(?!cpu)(\w+):([1-9]\d*)x([1-9]\d*)", text)
        kind = match and (match[1] or match[3])
        if match is None or (kind != "cpu" and kind not in CHIPS):
            raise InputError(
                f"topology {text!r}: expected KIND:ROWSxCOLUMNS with KIND of {', '.join(CHIPS)}, "
                "or cpu:N"
            )
        found = cls(kind, tuple(int(size) for size in (match[2], match[4], match[5]) if size))
        if kind == "cpu" and found.size > _MOST_PROCESSORS:
            raise InputError(f"topology {text}: expected at most {_MOST_PROCESSORS} devices")
        return found

    def __str__(self) -> str:
        return f"{self.kind}:{'x'.join(map(str, self.grid))}"

    @property
    def size(self) -> int:
        count = 1
        for length in self.grid:
            count *= length
        return count

    @property
    def chip(self) -> Chip | None:
        return CHIPS.get(self.kind)

    def devices(self) -> list[Any]:
        """Its devices: for compiling alone, unless they are this machine's processors.

        Raises:
          InputError: `libtpu` is not installed, it does not know the topology, or this process has
            fewer CPU devices.
        """
        return _processors(self.size) if self.kind == "cpu" else _chips(str(self))


def _processors(count: int) -> list[Any]:
    import jax

    with suppress(RuntimeError):  # this process has its devices already; are they enough?
        jax.config.update("jax_num_cpu_devices", count)
    found = jax.devices("cpu")
    if len(found) < count:
        raise InputError(f"topology cpu:{count}: expected {count} CPU devices, found {len(found)}")
    return found


def _chips(name: str) -> list[Any]:
    import importlib.util

    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"topology {name}: compiling for it takes the package libtpu; "
            "pip install '.[tpu]' in the checkout brings it (no TPU is needed)"
        )
    # Compiling needs no chip: neither its lock nor the cloud's word on which one this is.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    from jax.errors import JaxRuntimeError
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(name, platform="tpu").devices)
    except JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"topology {name}: libtpu does not take it: {reason}") from None
