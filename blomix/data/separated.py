"""CSV and TSV as RFC 4180 has them, strictly.

A row that does not fit its header is an error and never padded, "NA" is text and not a missing
value, and a number stays as it was written: hence the standard library's `csv` in strict mode, and
not a reader that guesses types.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from blomix.data.messages import reason, show_path
from blomix.data.table import MAX_CELL, Table, read_text
from blomix.errors import InputError

MAX_SEPARATORS = 1_000_000


def read_csv(path: Path) -> Table:
    return _read(path, ",")


def read_tsv(path: Path) -> Table:
    return _read(path, "\t")


def _read(path: Path, separator: str) -> Table:
    where = show_path(path)
    text = read_text(path)
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
                    f"{where}, row {row} (line {line}): expected the {len(columns)} cells of the "
                    f"header, found {len(cells)}; a cell that holds the separator, a quote or a "
                    f'line end must be quoted, and a quote within it doubled ("")'
                )
            for column, place in zip(kept, places, strict=True):
                column.append(cells[place])
        return dict(zip(names, kept, strict=True))

    return Table(where, columns, read)


def _records(text: str, separator: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """(line where the record starts, its cells), blank lines left out.

    In a file of one column a blank line between others is a row with an empty cell.
    """
    reader = csv.reader(_lines(text, separator, where), delimiter=separator, strict=True)
    columns, blank = 0, []
    while True:
        start = reader.line_num + 1
        try:
            with _cell_limit():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{where}, line {start}: {reason(error)}; a cell that begins with a quote must end "
                f'with one, and a quote within it be doubled ("")'
            ) from error
        if not cells:
            blank.append(start)
            continue
        if columns == 1:
            yield from ((line, [""]) for line in blank)
        blank, columns = [], columns or len(cells)
        yield start, cells


def _lines(text: str, separator: str, where: str) -> Iterator[str]:
    """Physical lines, whichever way they end; one of separators alone would fill the memory."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if (separators := line.count(separator)) > MAX_SEPARATORS:
            raise InputError(
                f"{where}, line {number}: {separators} separators in one line, at most "
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
