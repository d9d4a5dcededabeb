"""Parquet, by pyarrow itself.

The reader of `datasets` takes a path for a pattern (so a name with [ ] is not found) and writes
locks into a cache; this reads the one file and the columns that are asked for.
"""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from blomix.data.messages import reason, show, show_path
from blomix.data.table import MAX_BYTES, Table
from blomix.errors import InputError

_BATCH_ROWS = 1024


def read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    where = show_path(path)
    # What damaged bytes lead pyarrow to raise, besides its own: also plain Python errors.
    damage = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError)
    try:
        schema = pq.ParquetFile(path).schema_arrow
        columns = tuple(schema.names)
    except damage as error:
        raise InputError(f"{where}: not a Parquet file: {reason(error)}") from error

    def read(names: Sequence[str]) -> dict[str, list]:
        for name in names:
            if not _is_plain(schema.field(name).type):
                raise InputError(
                    f"{where}, column {show(name)}: expected strings or numbers, "
                    f"found {show(str(schema.field(name).type))}"
                )
        kept = {name: [] for name in names}
        size = 0
        try:
            # As dictionaries, so that one long text repeated a million times stays one in memory;
            # and cell by cell, so that few bytes which unpack to very many are noticed in time.
            file = pq.ParquetFile(path, read_dictionary=list(names))
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(names)):
                for name, column in kept.items():
                    for value in batch.column(name):
                        cell = value.as_py()
                        if isinstance(cell, Decimal):
                            cell = float(cell)
                        size += len(cell) if isinstance(cell, str) else 8
                        if size > MAX_BYTES:
                            raise InputError(
                                f"{where}: unpacks to more than {MAX_BYTES // 2**20} MiB; "
                                f"take a sample of its rows"
                            )
                        column.append(cell)
        except InputError:
            raise
        except damage as error:
            raise InputError(f"{where}: damaged Parquet file: {reason(error)}") from error
        return kept

    return Table(where, columns, read)


def _is_plain(kind) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    numbers = types.is_integer, types.is_floating, types.is_decimal, types.is_boolean
    checks = types.is_string, types.is_large_string, types.is_null
    return any(check(kind) for check in (*numbers, *checks))
