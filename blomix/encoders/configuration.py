"""Reading config.json: every value is checked where it is read, so that errors can name it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blomix.encoders.options import finite
from blomix.errors import InputError
from blomix.small_files import read_text

_LARGEST_SIZE = 2**31 - 1
_REQUIRED = object()


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        InputError: the file is missing, unreadable, not UTF-8, not JSON, or not an object.
    """
    value = _parse(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_config(config: Mapping[str, Any] | str | Path) -> tuple[dict[str, Any], str]:
    """A config as a dictionary, and what names it in errors: a mapping as it is, a config.json, or
    that of a directory; raises as `read_json`."""
    if isinstance(config, Mapping):
        return dict(config), "config"
    path = Path(config)
    try:
        path = path / "config.json" if path.is_dir() else path
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return read_json(path), str(path)


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """The JSON list of objects of a file; raises as `read_json`."""
    value = _parse(path)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{path}: expected a JSON list of objects")
    return value


def tokenizer_size(directory: Path) -> int:
    """One more than the largest id in tokenizer.json; 0 where the directory has none."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        return 0
    content = read_json(path)
    try:
        vocab = content["model"]["vocab"]
        added = [int(token["id"]) for token in content.get("added_tokens") or []]
        known = vocab.values() if isinstance(vocab, dict) else range(len(vocab))
        return 1 + max((*known, *added), default=-1)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected a tokenizer with a vocabulary, found none") from error


def _parse(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: expected valid JSON in UTF-8, found an error: {reason}"
        ) from error


class ConfigReader:
    """Typed access to a config dictionary; `where` names it in errors."""

    def __init__(self, config: dict[str, Any], where: str):
        self.config = config
        self.where = where

    def _get(self, name: str, default: Any) -> Any:
        value = self.config.get(name)
        if value is None:
            if default is _REQUIRED:
                raise InputError(f"{self.where}: expected the entry {name!r}, found none")
            return default
        return value

    def wrong(self, name: str, expected: str, found: Any) -> InputError:
        """The error that says what an entry should have been."""
        return InputError(f"{self.where}: {name}: expected {expected}, found {found!r}")

    def size(
        self,
        name: str,
        default: Any = _REQUIRED,
        *,
        minimum: int = 1,
        maximum: int = _LARGEST_SIZE,
    ) -> int:
        """A whole number in [minimum, maximum]."""
        value = self._get(name, default)
        whole = finite(value) and value == int(value)
        if not whole or not minimum <= value <= maximum:
            raise self.wrong(name, f"a whole number from {minimum} to {maximum}", value)
        return int(value)

    def heads(self, name: str, hidden: str) -> int:
        """A number of attention heads, which must divide the hidden size."""
        number = self.size(name)
        if self.size(hidden) % number:
            raise self.wrong(name, f"a divisor of {hidden} {self.size(hidden)}", number)
        return number

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """A finite number >= 0."""
        value = self._get(name, default)
        if not finite(value) or value < 0:
            raise self.wrong(name, "a finite number >= 0", value)
        return float(value)

    def rate(self, name: str, default: Any = _REQUIRED) -> float:
        """A dropout rate in [0, 1)."""
        value = self.number(name, default)
        if value >= 1:
            raise self.wrong(name, "a rate in [0, 1)", value)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: Any = _REQUIRED) -> str:
        """One of the names allowed."""
        value = self._get(name, default)
        if value not in allowed:
            raise self.wrong(name, f"one of {', '.join(allowed)}", value)
        return value

    def names(self, name: str) -> set[str]:
        """A set of names, written as a list or joined by "|"; empty where there is none."""
        value = self._get(name, ())
        parts = value.split("|") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(p, str) for p in parts):
            raise self.wrong(name, "a list of names", value)
        return {part.strip().lower() for part in parts}

    def must_be(self, name: str, value: Any, why: str, absent: Any = None) -> None:
        """Refuses a config whose entry differs from the only supported value.

        `absent` is what torch takes for an entry that is not there; None stands for `value`.
        """
        found = self.config.get(name)
        found = absent if found is None else found
        if found is not None and found != value:
            raise self.wrong(name, f"{value!r} ({why})", found)
