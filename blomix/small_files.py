"""Reading what should be a small text file: settings, metadata, logs."""

import stat
import tomllib
from pathlib import Path
from typing import Any

from blomix.errors import InputError

LARGEST = 256 * 2**20  # bytes
LARGEST_SETTINGS = 1_000_000


def read_text(path: Path, most: int = LARGEST) -> str:
    """The text of a file in UTF-8.

    Raises:
      OSError: it is missing or cannot be read.
      ValueError: it is no regular file (a pipe would be waited for, a device read for ever), has
        more than `most` bytes, is not UTF-8, or the path holds a NUL byte.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file")
    if found.st_size > most:
        raise ValueError(f"it has {found.st_size} bytes, more than the {most} that are read")
    return path.read_text("utf-8")


def read_toml(path: Path) -> dict[str, Any]:
    """Settings, as a mapping; editors of Windows put a byte order mark first.

    Raises:
      InputError: the file is missing, too large for settings, or not TOML.
    """
    try:
        return tomllib.loads(read_text(path, LARGEST_SETTINGS).removeprefix("\ufeff"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected TOML: {error}") from None
