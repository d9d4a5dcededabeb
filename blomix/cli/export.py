"""Copy a finished run's model as a Hugging Face directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True)
class Config:
    """Flags of `blomix export`."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory that `blomix finetune` finished."""
    out: Annotated[Path, tyro.conf.Positional]
    """Directory to write; it must not exist or be empty."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    import shutil

    from blomix.errors import InputError
    from blomix.runs import finished, manifest

    finished(config.run)
    manifest.verify(config.run / "export")
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise InputError(f"{config.out}: expected a new or empty directory, found files in it")
    try:
        shutil.copytree(config.run / "export", config.out, dirs_exist_ok=True)
    except OSError as error:
        raise InputError(f"{config.out}: cannot be written: {error}") from None
    manifest.verify(config.out)
    return {"model": str(config.out), "files": sorted(p.name for p in config.out.iterdir())}


def text(result: dict[str, Any]) -> str:
    return f"{result['model']}: {', '.join(result['files'])}"
