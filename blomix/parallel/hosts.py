"""Several processes, on one machine or many, that compute as one."""

import jax

from blomix.errors import InputError

# A process that has not been heard of for so long is given up, and the others end.
HEARTBEAT_SECONDS = 30
# Processes end together; one that waits for longer than this is alone.
SHUTDOWN_SECONDS = 60


def join(coordinator: str | None, processes: int | None = None, process: int | None = None) -> None:
    """Makes `jax.devices()` those of all processes; call it before anything else of JAX.

    Args:
      coordinator: HOST:PORT of process 0, which listens there; "auto" on a TPU pod or under a
        cluster manager that JAX knows, which say all this themselves; None for one process alone.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      InputError: an address or a number that makes no sense, or the others did not come.
    """
    if coordinator in (None, "auto"):
        if (processes, process) != (None, None):
            raise InputError("--processes and --process: expected beside --coordinator HOST:PORT")
        return None if coordinator is None else _initialize()
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"coordinator: expected HOST:PORT or auto, found {coordinator!r}")
    if processes is None or process is None:
        raise InputError("coordinator: expected --processes and --process beside HOST:PORT")
    if not 0 <= process < processes:
        raise InputError(f"process: expected 0 to {processes - 1}, found {process}")
    _initialize(coordinator, processes, process)


def _initialize(*where) -> None:
    try:
        jax.distributed.initialize(
            *where,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise InputError(f"coordinator: the processes did not find one another: {reason}") from None
