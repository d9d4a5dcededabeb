"""A table whose columns are read by name, and what a file may ask of the machine."""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blomix.data.messages import show_path
from blomix.errors import InputError

# Few-label data are far below all of these; a file beyond them is refused before it fills memory.
MAX_BYTES = 256 * 2**20
MAX_CELL = 4 * 2**20
MAX_LINE = 4 * MAX_CELL
MAX_COLUMNS = 10_000
_SAVE = "save the sheet as CSV (UTF-8)"
_PACKED = (
    (b"\x1f\x8b", "packed by gzip", "unpack it"),
    (b"PK\x03\x04", "a spreadsheet or another zip archive", f"{_SAVE}, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet", _SAVE),
)


@dataclass(frozen=True)
class Table:
    """`read` gives the columns of these names; `class_names` where the data name their classes."""

    where: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], dict[str, list]]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_text(path: Path) -> str:
    """The whole file, which must be UTF-8, without a byte-order mark."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    where = show_path(path)
    if len(data) > MAX_BYTES:
        raise InputError(f"{where}: more than {MAX_BYTES // 2**20} MiB; take a sample of its rows")
    for magic, found, mend in _PACKED:
        if data.startswith(magic):
            raise InputError(f"{where}: {found}, and no text; {mend}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{where}: encoded as UTF-16; save it as UTF-8")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}, line {data.count(10, 0, error.start) + 1}: not UTF-8: byte "
            f"0x{data[error.start]:02x} at offset {error.start}; save the file as UTF-8"
        ) from error
