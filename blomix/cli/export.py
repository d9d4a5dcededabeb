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
    import os
    import shutil

    from blomix.errors import InputError
    from blomix.runs import finished, manifest
    from blomix.runs.files import TEMPORARY, remove

    finished(config.run)
    manifest.verify_model(config.run / "export")
    out = config.out
    if out.absolute() == Path.cwd():
        raise InputError(f"{out}: expected another directory than the one you are in")
    place, own = (Path(os.path.realpath(path)) for path in (out, config.run / "export"))
    if place.is_relative_to(own):
        raise InputError(f"{out}: expected a directory outside the run's own export")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: expected a new or empty directory, found files in it")
        out.parent.mkdir(parents=True, exist_ok=True)
        # Copied under another name first: a full disk leaves nothing that looks like a model, and
        # what a killed process has left the next one removes.
        copy = out.absolute().with_name(f"{TEMPORARY}{out.name}")
        remove(copy)
        try:
            shutil.copytree(config.run / "export", copy)
            manifest.verify_model(copy)
            copy.replace(out)
        finally:
            remove(copy)
    except shutil.Error as error:  # a list of files, each with its reason
        raise InputError(f"{out}: cannot be written: {error.args[0][0][2]}") from None
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None
    return {"model": str(out), "files": sorted(p.name for p in out.iterdir())}


def text(result: dict[str, Any]) -> str:
    return f"{result['model']}: {', '.join(result['files'])}"
