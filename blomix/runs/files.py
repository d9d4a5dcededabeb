"""Durable writing: a file is either the old one or the new one, whole, after any crash."""

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blomix.errors import InputError
from blomix.small_files import read_text

TEMPORARY = ".tmp-"  # prefix of everything that a crash may leave behind half-written

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space, then run the same command again",
    errno.EFBIG: "the file size limit is reached: raise it (ulimit -f), then run the same command",
    errno.EROFS: "the storage is read-only: choose another directory",
    errno.EACCES: "permission is missing: choose another directory or change its owner",
    errno.EPERM: "permission is missing: choose another directory or change its owner",
    errno.ENOENT: "it has vanished: was it deleted or unmounted while the run was at work?",
    errno.ENOTDIR: "a part of this path is a file: choose another directory",
    errno.EEXIST: "a file of this name is in the way: choose another directory",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ELOOP: "its symbolic links form a loop: choose another directory",
}


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: arrays become numbers or lists, non-finite numbers None."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):  # a file name's stray bytes come as lone surrogates
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def json_line(value: Any) -> str:
    """One line of JSON; every float reads back as the same bits."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def sync(path: Path) -> None:
    """Force a file's contents, or a directory's list of names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step that a crash cannot halve."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=1)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file, None where there is no such file.

    Raises:
      InputError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: expected JSON: {error}") from None


def finished(run_dir: Path) -> dict[str, Any]:
    """result.json of a finished run.

    Raises:
      InputError: the run is not finished, or that file is damaged.
    """
    path = run_dir / "result.json"
    summary = read_json(path)
    if summary is None:
        raise InputError(
            f"{run_dir}: expected a finished run, found no result.json; give the directory that "
            "`blomix finetune` wrote, or run that command again to finish it"
        )
    if not isinstance(summary, dict):
        raise InputError(f"{path} is damaged: expected an object, found {type(summary).__name__}")
    return summary


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines."""
    return values_of(path.read_text("utf-8"))


def values_of(lines: str) -> list[Any]:
    """The values of JSON lines."""
    # splitlines() would also split at characters that JSON leaves as they are inside of a string.
    return [json.loads(line) for line in lines.split("\n") if line]


def remove(path: Path) -> None:
    """Delete a directory tree at one stroke: renamed first, so that no half of it is ever read."""
    if not path.name.startswith(TEMPORARY):
        doomed = path.with_name(f"{TEMPORARY}{path.name}")
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(path, doomed)
        path = doomed
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def storage(path: Path, action: str) -> Iterator[None]:
    """Turn an operating system's refusal into one line: what failed, where, how to mend it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = _REMEDIES.get(error.errno or 0, "mend this, then run the same command again")
        where = error.filename if isinstance(error.filename, str) else path
        raise InputError(f"cannot {action} {path}: {reason} ({where}); {remedy}") from error
