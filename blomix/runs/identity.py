"""Is this run directory the one of this config and this data?"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from blomix.errors import InputError
from blomix.runs import files, lock

CONFIG, DIGESTS, ENVIRONMENT = "config.toml", "digests.json", "env.json"
METRICS = "metrics.jsonl"
_OURS = {CONFIG, DIGESTS, ENVIRONMENT, lock.NAME}
_WIDEST = 200  # characters of a value
_SHOWN = 20  # lines of a difference that are printed


def is_run(directory: Path) -> bool:
    """Whether `directory` was begun as a run (the config is the last file of a beginning)."""
    return (directory / CONFIG).is_file() and (directory / DIGESTS).is_file()


def has_work(directory: Path) -> bool:
    """Whether the run there has logged a step or saved anything; one that ran out of memory before
    that has not, and other settings may begin in its place."""
    log = directory / METRICS
    return (log.is_file() and log.stat().st_size > 0) or any(directory.glob("*/*"))


def refuse_foreign(directory: Path) -> None:
    """Raise InputError where `directory` holds anything that a run did not put there.

    Links are refused, for what is written through one lands elsewhere; pipes and devices too, for
    opening one may wait for ever.
    """
    for entry in directory.iterdir():
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise InputError(
                f"{entry} is a link or no regular file: a run directory holds regular files and "
                "directories alone; remove it, or choose another --run-dir"
            )
    if is_run(directory):
        return
    foreign = [
        entry.name
        for entry in sorted(directory.iterdir())
        if not entry.name.startswith(files.TEMPORARY) and entry.name not in _OURS - {CONFIG}
    ]
    if foreign:
        raise InputError(
            f"{directory} is not empty and not a run of blomix (it holds {foreign[0]!r}): "
            "choose another --run-dir"
        )


def begin(directory: Path, config: Mapping, digests: Mapping, environment: Mapping) -> None:
    """Write what the directory will be known by."""
    files.write_json(directory / ENVIRONMENT, environment)
    files.write_json(directory / DIGESTS, digests)
    files.write_text(directory / CONFIG, to_toml(config))


def compare(directory: Path, config: Mapping, digests: Mapping, defaults: Mapping) -> None:
    """Raise InputError, a line for each difference, unless both are what the run began with.

    A setting that an earlier version had not stands at its default, so that its runs go on.
    """
    try:
        old_config = tomllib.loads(files.read_text(directory / CONFIG))
        old_digests = json.loads(files.read_text(directory / DIGESTS))
        changes = {
            "another config": _differences(
                old_config, tomllib.loads(to_toml(config)), tomllib.loads(to_toml(defaults))
            ),
            "other data or weights": _differences(old_digests, files.plain(digests)),
        }
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{directory} is damaged: {CONFIG} or {DIGESTS} cannot be read ({error}); "
            "choose another --run-dir"
        ) from None
    for what, lines in changes.items():
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"... and {len(lines) - _SHOWN} more"]
        if lines:
            raise InputError(
                f"{directory} was begun with {what}; repeat that run, "
                "or choose another --run-dir:\n  " + "\n  ".join(lines)
            )


def environment_changes(directory: Path, environment: Mapping[str, Any]) -> list[str]:
    """A line for each version, device or flag that is not as it was when the run began."""
    try:
        old = json.loads(files.read_text(directory / ENVIRONMENT))
        return _differences(old, files.plain(environment))
    except (OSError, ValueError, RecursionError):
        return [f"{ENVIRONMENT} cannot be read"]


def to_toml(config: Mapping[str, Any]) -> str:
    """`config` as TOML; a key whose value is None is left out, for TOML has no null."""
    return tomli_w.dumps(_without_none(files.plain(config)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def _differences(old: Any, new: Any, defaults: Any = None) -> list[str]:
    before, now = dict(_flat(old)), dict(_flat(new))
    before = {name: text for name, text in _flat(defaults) if name in now} | before
    return [
        f"{name}: {_short(before.get(name, '-'))} then, {_short(now.get(name, '-'))} now"
        for name in before | now
        if before.get(name) != now.get(name)
    ]


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..."


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and JSON text of all values, so that 1 and 1.0 and true stay apart."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}[{index}]")
    else:
        yield name, json.dumps(value, ensure_ascii=False, default=str)  # TOML has dates as well
