"""JSON lines: one object a line, every row with the columns that are asked for."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from blomix.data.messages import reason, show, show_all, show_path
from blomix.data.table import MAX_LINE, Table, read_text
from blomix.errors import InputError


def read_json_lines(path: Path) -> Table:
    where = show_path(path)
    text = read_text(path)
    if text.lstrip().startswith("["):
        raise InputError(
            f"{where}: a JSON array; expected one JSON object a line, as jq -c '.[]' and pandas' "
            "to_json(orient='records', lines=True) write them"
        )
    if next(_objects(text, where), None) is None:
        raise InputError(f"{where}: the file is empty; expected one JSON object a line")

    columns = dict.fromkeys(name for _, record in _objects(text, where) for name in record)

    def read(names: Sequence[str]) -> dict[str, list]:
        kept = {name: [] for name in names}
        for row, (line, record) in enumerate(_objects(text, where), 1):
            for name, column in kept.items():
                if name not in record:
                    raise InputError(
                        f"{where}, row {row} (line {line}): no {show(name)}; "
                        f"it has {show_all(record)}"
                    )
                column.append(record[name])
        return kept

    return Table(where, tuple(columns), read)


def _objects(text: str, where: str) -> Iterator[tuple[int, dict]]:
    """(line, object) for every line that is not blank."""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise InputError(
                f"{where}, line {number}: {len(line)} characters, at most {MAX_LINE} are read"
            )
        try:
            record = json.loads(line, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where}, line {number}: expected one JSON object: {reason(error)}"
            ) from error
        if not isinstance(record, dict):
            raise InputError(
                f"{where}, line {number}: expected one JSON object a line, "
                f"found {type(record).__name__} {show(record)}"
            )
        yield number, record


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, refused where a key comes twice: plain JSON reading keeps the last in silence."""
    record: dict[str, object] = {}
    for name, value in pairs:
        if name in record:
            raise ValueError(f"the key {show(name)} is there twice")
        record[name] = value
    return record
