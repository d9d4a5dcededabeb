"""From an argument list to a command's result and exit code."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from blomix.errors import InputError, is_out_of_memory
from blomix.small_files import read_toml

_CONFIG = "--config FILE takes flags from a TOML file; those given beside it win."
_LESS = {
    "accumulate": "--accumulate 2 or more (the same batch in parts)",
    "together": "--together no (folds one after the other)",
    "remat": "--remat",
    "dtype": "--dtype bfloat16",
    "max_length": "a shorter --max-length",
    "batch_size": "a smaller --batch-size",
}


def call(name: str, command: ModuleType, argv: list[str]) -> int:
    """Parses `argv` into the command's `Config`, runs it and prints; returns the exit code."""
    import tyro

    from blomix.parallel import cache
    from blomix.runs.processes import is_first
    from blomix.runs.signals import Interrupted

    cache.enable()
    # transformers reads tokenizers here, and would advise every user to install torch.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        config = tyro.cli(
            command.Config,
            args=with_settings(command.Config, argv),
            prog=f"blomix {name}",
            description=f"{(command.__doc__ or '').strip()}\n\n{_CONFIG}",
        )
        refuse_impossible(config)
        result = command.run(config)
    except InputError as error:
        print(f"blomix {name}: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"blomix {name}: {stop}", file=sys.stderr)
        return stop.exit_code
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print(f"blomix {name}: {less_of(command.Config, error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # outside of an open run: nothing to save
        print(f"blomix {name}: stopped", file=sys.stderr)
        return 130
    if is_first():
        print(json.dumps(result, allow_nan=False) if config.json else command.text(result))
    return 0


def less_of(config: type, error: Exception) -> str:
    """What was too much, and by which of its flags the command would take less."""
    known = {field.name for field in dataclasses.fields(config)}
    flags = [flag for name, flag in _LESS.items() if name in known]
    mend = f"for less, give {', '.join(flags)}" if flags else "use a machine that has more"
    return f"out of memory: {(str(error) or type(error).__name__).splitlines()[0]}; {mend}"


def refuse_impossible(config: Any) -> None:
    """Raises InputError at a NUL byte, which no path can hold, and at a seed that no generator
    takes; TOML can bring both."""
    for name, value in vars(config).items():
        flag = f"--{name.replace('_', '-')}"
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, str | Path) and "\0" in str(item):
                raise InputError(f"{flag}: a NUL byte cannot be part of it")
        if name.endswith("seed") and isinstance(value, int) and not 0 <= value < 2**63:
            raise InputError(f"{flag}: expected a whole number from 0 to 2^63 - 1, found {value}")


def with_settings(config: type, argv: list[str]) -> list[str]:
    """Puts the settings of `--config FILE` in front of the flags, which therefore win over them."""
    for i, argument in enumerate(argv):
        if argument == "--config" and i + 1 < len(argv):
            return as_flags(config, Path(argv[i + 1])) + argv[:i] + argv[i + 2 :]
        if argument.startswith("--config="):
            path = Path(argument.removeprefix("--config="))
            return as_flags(config, path) + argv[:i] + argv[i + 1 :]
    return argv


def as_flags(config: type, path: Path) -> list[str]:
    """A TOML file's settings as flags; a list repeats its flag.

    The table `resolved`, which a run's config.toml has for its readers, is passed over, and what a
    command takes by its place is no setting.
    """
    from tyro.conf import Positional

    hints = get_type_hints(config, include_extras=True)
    placed = {name for name, hint in hints.items() if Positional in get_args(hint)[1:]}
    known = {field.name for field in dataclasses.fields(config)} - placed
    flags = []
    for key, value in read_toml(path).items():
        name = key.replace("-", "_")
        if name == "resolved":
            continue
        if name in placed:
            raise InputError(f"{path}: {key!r} is told by its place on the command line alone")
        if name not in known:
            raise InputError(f"{path}: no setting {key!r}; there are {', '.join(sorted(known))}")
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            flags += [part for item in value for part in (flag, str(item))]
        else:
            flags += [flag, str(value)]
    return flags
