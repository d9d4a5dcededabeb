"""Predictions on disk: whole or not at all, over nothing, and inert in a spreadsheet."""

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from blomix.data.messages import near, show_path
from blomix.errors import InputError

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
# What a spreadsheet takes for a formula (OWASP, "CSV injection"), full-width forms included. One
# has a letter or a digit in it: a label such as + or - is none.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def safe_cell(value: object) -> object:
    """The value; a text that a spreadsheet would run gets a leading apostrophe, numbers do not."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return "'" + value if any(char.isalnum() for char in value) else value


def separated_text(columns: Mapping[str, Sequence[object]], separator: str = ",") -> str:
    """Columns of equal length as RFC 4180 text with a header line, formula cells neutralised."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow([safe_cell(name) for name in columns])
    for row in zip(*columns.values(), strict=True):
        writer.writerow([safe_cell(value) for value in row])
    return text.getvalue()


def check_output(path: str | Path) -> Path:
    """The path, where `write_columns` will be able to write: call it before a long computation.

    Raises InputError for an unknown suffix, a name that is taken, or a folder that is not there or
    cannot be written.
    """
    path = Path(path)
    suffixes = (*_SEPARATORS, *_JSON_LINES)
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"{show_path(path)}: expected a name ending in {', '.join(suffixes)}"
            f"{near(path.suffix, suffixes)}"
        )
    if os.path.lexists(path):
        raise InputError(f"{show_path(path)}: exists already, and is not written over")
    if not path.parent.is_dir():
        raise InputError(f"{show_path(path)}: no such folder {show_path(path.parent)}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{show_path(path)}: the folder cannot be written")
    return path


def write_columns(path: str | Path, columns: Mapping[str, Sequence[object]]) -> Path:
    """Write columns of equal length as .csv, .tsv or .jsonl, by the suffix.

    The name appears with its whole content or not at all. Raises InputError as `check_output`
    does, and where the disk refuses.
    """
    path = check_output(path)
    if path.suffix.lower() in _SEPARATORS:
        text = separated_text(columns, _SEPARATORS[path.suffix.lower()])
    else:
        rows = zip(*columns.values(), strict=True)
        text = "".join(
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, allow_nan=False)
            + "\n"
            for row in rows
        )
    try:
        _write_new(path, text.encode())
    except FileExistsError as error:
        raise InputError(f"{show_path(path)}: exists already, and is not written over") from error
    except OSError as error:
        raise InputError(f"{show_path(path)}: cannot be written: {error.strerror}") from error
    return path


def _write_new(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}.")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # Claim the name, so that a file made meanwhile is never replaced; then put the whole
        # content there at once. (A hard link would do both, but not every file system has them.)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            os.chmod(temporary, path.stat().st_mode)
            os.replace(temporary, path)
        except BaseException:
            path.unlink()
            raise
    finally:
        Path(temporary).unlink(missing_ok=True)
