"""The command line: one module a command, imported when it is called.

Exit codes: 0 success, 1 a failure of blomix, 2 a usage or input error (one line, no traceback),
130 and 143 after Ctrl-C and SIGTERM, with the run saved.
"""

import importlib
import sys

# Command -> what it does. The module `blomix.cli.<command>` holds a dataclass `Config`, its flags,
# `run(config) -> dict`, whose result `--json` prints as one line, and `text(result) -> str`.
COMMANDS = {
    "finetune": "finetune an encoder on labelled texts and export it",
    "evaluate": "score a finished run on labelled data",
    "predict": "label a file with a finished run",
    "export": "copy a finished run's model as a Hugging Face directory",
    "bench": "run a study: a grid of tasks, sizes, methods and seeds",
    "report": "write what a finished run did as a web page with figures",
    "pilot": "try methods on your labels within a time budget and decide",
    "compare": "set finished runs side by side",
    "plan": "say what a setting needs of a device, by compiling for it",
    "doctor": "check the installation and the devices",
}


def main(argv: list[str] | None = None) -> None:
    """Runs a command and exits."""
    from blomix.cli import streams
    from blomix.errors import InputError

    streams.forgive()
    try:
        try:
            code = _main(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except InputError as error:  # of the output itself; those of commands are told by `call`
        print(f"blomix: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        from blomix import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"blomix: no command {argv[0]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    from blomix.cli.entry import call

    return call(argv[0], importlib.import_module(f"blomix.cli.{argv[0]}"), argv[1:])


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(["usage: blomix COMMAND [--help] [--config FILE] [--json] ...", "", *lines])
