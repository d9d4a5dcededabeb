"""Files of rows -> columns of values, strictly.

A row that does not fit its header is an error and never padded, "NA" is text and not a missing
value, and a number stays as it was written: this is why the text formats are read by the standard
library (`csv` in its strict mode, `json`) and not by a reader that guesses types.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blomix.data.messages import show, show_all, show_path
from blomix.errors import InputError

# What a file may ask of the machine. Few-label data are far below all of these.
MAX_FILE_BYTES = 512 * 2**20
MAX_CELL = 16 * 2**20
MAX_COLUMNS = 10_000
MAX_SEPARATORS = 1_000_000


@dataclass(frozen=True)
class Table:
    """Columns that can be read by name; `class_names` where the file itself names its classes."""

    where: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], dict[str, list]]
    class_names: dict[str, tuple[str, ...]]


def open_file(path: Path) -> Table:
    """The table in a file; its format is told by its suffix.

    Raises InputError where the file is missing, empty, not regular, too large or not of its format.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"{show_path(path)}: expected a file ending in {', '.join(FORMATS)}, "
            f"found {path.suffix or 'no suffix'!r}; rename it or convert it"
        )
    try:
        if not path.exists():
            raise InputError(f"{show_path(path)}: no such file")
        if not path.is_file():
            raise InputError(f"{show_path(path)}: expected a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{show_path(path)}: the file is empty")
        table = FORMATS[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(
            f"{show_path(path)}: cannot be read: {error.strerror or show(str(error))}"
        ) from error
    if len(table.columns) > MAX_COLUMNS:
        raise InputError(
            f"{table.where}: {len(table.columns)} columns, at most {MAX_COLUMNS} are read; "
            f"keep only the text and label columns"
        )
    return table


def _csv(path: Path) -> Table:
    return _separated(path, ",")


def _tsv(path: Path) -> Table:
    return _separated(path, "\t")


def _separated(path: Path, separator: str) -> Table:
    where = show_path(path)
    text = _read_text(path)
    first = next(_records(text, separator, where), None)
    if first is None:
        raise InputError(f"{where}: the file is empty; expected a header line with column names")
    columns = tuple(first[1])

    def read(names: Sequence[str]) -> dict[str, list]:
        places = [columns.index(name) for name in names]
        kept = [[] for _ in names]
        records = _records(text, separator, where)
        next(records)
        for row, (line, cells) in enumerate(records, 1):
            if len(cells) != len(columns):
                raise InputError(
                    f"{where}, row {row} (line {line}): {len(cells)} cells where the header has "
                    f"{len(columns)}; a cell that holds the separator, a quote or a line end "
                    f'must be quoted, and a quote within it doubled ("")'
                )
            for column, place in zip(kept, places, strict=True):
                column.append(cells[place])
        return dict(zip(names, kept, strict=True))

    return Table(where, columns, read, {})


def _records(text: str, separator: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """(line where the record starts, its cells), blank lines left out; RFC 4180."""
    reader = csv.reader(_lines(text, separator, where), delimiter=separator, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            with _cell_limit():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{where}, line {start}: {error}; a cell that begins with a quote must end with "
                f'one, and a quote within it be doubled ("")'
            ) from error
        if cells:
            yield start, cells


def _lines(text: str, separator: str, where: str) -> Iterator[str]:
    """Physical lines, whichever way they end; one of separators alone would fill the memory."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if line.count(separator) > MAX_SEPARATORS:
            raise InputError(
                f"{where}, line {number}: {line.count(separator)} separators in one line, at most "
                f"{MAX_SEPARATORS} are read; keep only the text and label columns"
            )
        yield line


@contextmanager
def _cell_limit():
    # The limit is one for the whole process: put the host program's own back after each record.
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_lines(path: Path) -> Table:
    where = show_path(path)
    text = _read_text(path)
    first = next(_objects(text, where), None)
    if first is None:
        raise InputError(f"{where}: the file is empty; expected one JSON object a line")
    columns = tuple(first[1])

    def read(names: Sequence[str]) -> dict[str, list]:
        kept = {name: [] for name in names}
        for row, (line, record) in enumerate(_objects(text, where), 1):
            for name, column in kept.items():
                if name not in record:
                    raise InputError(
                        f"{where}, row {row} (line {line}): no {show(name)}; "
                        f"found {show_all(record)}"
                    )
                column.append(record[name])
        return kept

    return Table(where, columns, read, {})


def _objects(text: str, where: str) -> Iterator[tuple[int, dict]]:
    """(line, object) for every line that is not blank."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}, line {number}: expected one JSON object, {show(str(error))}"
            ) from error
        if not isinstance(record, dict):
            raise InputError(
                f"{where}, line {number}: expected one JSON object a line, "
                f"found {type(record).__name__} {show(record)}"
            )
        yield number, record


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return record


def _read_text(path: Path) -> str:
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    where = show_path(path)
    if len(data) > MAX_FILE_BYTES:
        raise InputError(
            f"{where}: more than {MAX_FILE_BYTES // 2**20} MiB; take a sample of its rows"
        )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{where}: encoded as UTF-16; save it as UTF-8")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}, line {data.count(10, 0, error.start) + 1}: not UTF-8: byte "
            f"0x{data[error.start]:02x} at offset {error.start}; save the file as UTF-8"
        ) from error


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = show_path(path)
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise InputError(f"{where}: not a Parquet file: {show(str(error))}") from error
    columns = tuple(file.schema_arrow.names)

    def read(names: Sequence[str]) -> dict[str, list]:
        kept = {name: [] for name in names}
        size = 0
        try:
            # Small batches, so that a file of few bytes that unpacks to very many is seen in time.
            for batch in file.iter_batches(batch_size=256, columns=list(names)):
                size += batch.nbytes
                if size > MAX_FILE_BYTES:
                    raise InputError(
                        f"{where}: unpacks to more than {MAX_FILE_BYTES // 2**20} MiB; "
                        f"take a sample of its rows"
                    )
                for name, column in kept.items():
                    column.extend(batch.column(name).to_pylist())
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{where}: damaged Parquet file: {show(str(error))}") from error
        return kept

    return Table(where, columns, read, {})


FORMATS = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}
