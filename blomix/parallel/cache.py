"""Compiled programs that outlive a process."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "BLOMIX_CACHE_DIR"


def folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where compiled programs are kept: `$BLOMIX_CACHE_DIR` (empty: nowhere), else
    `$XDG_CACHE_HOME/blomix/xla`, else `~/.cache/blomix/xla`."""
    if VARIABLE in environment:
        return Path(environment[VARIABLE]) if environment[VARIABLE] else None
    home = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "blomix" / "xla"


def enable() -> None:
    """Keeps what takes over a second to compile, for later processes.

    A folder given to JAX itself (`JAX_COMPILATION_CACHE_DIR`) stands, unless `VARIABLE` is set.
    """
    import jax

    path = folder()
    if path and (VARIABLE in os.environ or "JAX_COMPILATION_CACHE_DIR" not in os.environ):
        jax.config.update("jax_compilation_cache_dir", str(path))


@contextmanager
def unwritten() -> Iterator[None]:
    """Keeps nothing of what is compiled inside: for devices that are not there, whose programs JAX
    writes but cannot read again (it warns, and compiles anew)."""
    import jax

    name = "jax_persistent_cache_min_compile_time_secs"
    least = getattr(jax.config, name)
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, least)
