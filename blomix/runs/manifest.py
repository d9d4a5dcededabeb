"""A directory's list of files with their sizes and sha256, sealed by a digest of itself.

Orbax and safetensors both load many flipped bits without complaint, so nothing that blomix wrote is
loaded before its bytes have been compared with this list.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blomix.errors import InputError
from blomix.runs import files

NAME = "manifest.json"


class Damaged(InputError):
    """The files of a directory are not the ones that were written there."""


def write(directory: Path | str, facts: Mapping[str, Any] | None = None) -> None:
    """Seal `directory`: every file in it is hashed and forced to disk; the manifest comes last.

    Args:
      directory: holds the finished files, in any depth.
      facts: further JSON values to keep, under the same seal.
    """
    directory = Path(directory)
    names = _names(directory)
    listed = {
        name: {"bytes": (directory / name).stat().st_size, "sha256": _sha256(directory / name)}
        for name in sorted(names)
    }
    paths = {directory / name for name in names}
    for path in paths | {path.parent for path in paths} | {directory}:
        files.sync(path)
    body = {"facts": files.plain(facts or {}), "files": listed}
    files.write_json(directory / NAME, body | {"seal": _seal(body)})


def verify_model(directory: Path | str) -> None:
    """As `verify`, but for what no model is loaded from: its card, which the user is to fill in,
    and hidden files, which file managers leave."""
    verify(directory, lambda name: name == "README.md" or name.startswith("."))


def verify(
    directory: Path | str, free: Callable[[str], bool] = lambda name: False
) -> dict[str, Any]:
    """The facts kept in the manifest of `directory`, once every byte there has been compared.

    free: which files may be there, and be as they like.

    Raises:
      Damaged: naming each file that is missing, added, shortened, lengthened or changed.
    """
    directory = Path(directory)
    facts, listed = _read(directory / NAME)
    listed = {name: file for name, file in listed.items() if not free(name)}
    found = {name for name in _names(directory) if not free(name)}
    problems = [f"{name} is missing" for name in listed if name not in found]
    problems += [f"{name} was not there when it was written" for name in found - listed.keys()]
    for name in sorted(listed.keys() & found):
        try:
            size = (directory / name).stat().st_size
            if size != listed[name][0]:
                problems.append(f"{name} has {size} bytes, not {listed[name][0]}")
            elif _sha256(directory / name) != listed[name][1]:
                problems.append(f"{name} has other contents (its sha256 differs)")
        except OSError as error:  # a link to nowhere, a file of somebody else
            problems.append(f"{name} cannot be read: {error.strerror}")
    if problems:
        raise Damaged(f"{directory} is damaged: {'; '.join(problems)}")
    return facts


def read_facts(directory: Path | str) -> dict[str, Any]:
    """The facts of a manifest whose seal holds; the other files are not looked at."""
    return _read(Path(directory) / NAME)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, str]]]:
    """The facts, and size and sha256 of every file."""
    try:
        body = json.loads(files.read_text(path))
        seal = body.pop("seal")
        facts = dict(body["facts"])
        listed = {name: (file["bytes"], file["sha256"]) for name, file in body["files"].items()}
    except FileNotFoundError:
        raise Damaged(f"{path.parent} is damaged: {NAME} is missing") from None
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError, OSError) as error:
        raise Damaged(f"{path.parent} is damaged: {NAME} cannot be read ({error})") from None
    if seal != _seal(body):
        raise Damaged(f"{path.parent} is damaged: {NAME} does not match its own seal")
    return facts, listed


def _seal(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _names(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if (path.is_file() or path.is_symlink()) and path != directory / NAME
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
