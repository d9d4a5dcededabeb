"""What a run's numbers depend on beside its config and data."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("blomix", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers")
_PACKAGES += ("tokenizers", "safetensors", "numpy", "scipy", "scikit-learn")


def describe() -> dict[str, Any]:
    """Versions, devices, flags and the source commit, as far as each is known."""
    import jax

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: version_of(name) for name in _PACKAGES},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _commit(),
    }


def version_of(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package is imported from; None when installed."""
    source = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        if not (source / ".git").exists():
            return None
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
