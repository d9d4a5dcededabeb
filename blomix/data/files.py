"""A file -> a table, by its suffix."""

from pathlib import Path

from blomix.data.json_lines import read_json_lines
from blomix.data.messages import reason, show, show_path
from blomix.data.parquet import read_parquet
from blomix.data.separated import read_csv, read_tsv
from blomix.data.table import MAX_COLUMNS, Table
from blomix.errors import InputError

FORMATS = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".parquet": read_parquet,
}


def open_file(path: Path) -> Table:
    """Raises InputError where the file is missing, empty, not regular, too large or damaged."""
    where = show_path(path)
    if path.suffix.lower() not in FORMATS:
        packed = path.suffix.lower() in (".gz", ".zip", ".bz2", ".xz", ".zst")
        mend = "unpack it" if packed else "rename it or convert it"
        raise InputError(
            f"{where}: expected a file ending in {', '.join(FORMATS)}, found "
            f"{show(path.suffix or 'no suffix')}; {mend}"
        )
    try:
        if not path.exists():
            raise InputError(f"{where}: no such file")
        if not path.is_file():  # a pipe would be waited for, a device read for ever
            raise InputError(f"{where}: expected a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{where}: the file is empty")
        table = FORMATS[path.suffix.lower()](path)
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror or reason(error)}") from error
    if len(table.columns) > MAX_COLUMNS:
        raise InputError(
            f"{where}: {len(table.columns)} columns, at most {MAX_COLUMNS} are read; "
            f"keep only the text and label columns"
        )
    return table
