"""Several processes, on one machine or many, that compute as one."""

import jax

from blomix.errors import InputError


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes `jax.devices()` those of all processes; call it before anything else of JAX.

    Args:
      coordinator: HOST:PORT of process 0, which listens there.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      InputError: an address or a number that makes no sense.
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"coordinator: expected HOST:PORT, found {coordinator!r}")
    if not 0 <= process < processes:
        raise InputError(f"process: expected 0 to {processes - 1}, found {process}")
    jax.distributed.initialize(coordinator, num_processes=processes, process_id=process)
