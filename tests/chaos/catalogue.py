"""The catalogue of bad input as tables: case, message, exit code; and the fuzzing's counts.

`python tests/chaos/catalogue.py` runs the tests that hold the cases and notes what each case got:
an `InputError` that reaches the user, which the command line turns into its message and exit code
2; one that blomix catches itself and goes on (exit code 0); or no error. Exits with 1 if a case
fails: by a traceback, a wrong message, or none where one is due.

`--examples 1200` fuzzes with that many examples a test, more than 10,000 together.
"""

import argparse
import contextlib
import html
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BY_HAND = {
    "command line": ["tests/cli/test_mistakes.py"],
    "data files": ["tests/data/test_hostile.py"],
    "encoder directories": ["tests/encoders/test_bad_input.py"],
    "run directories and checkpoints": ["tests/runs/test_hostile.py"],
    "finished runs": ["tests/cli/test_hostile_runs.py"],
}
FUZZED = {
    "flags": ["tests/cli/test_any_flags.py::test_flags"],
    "settings files": ["tests/cli/test_any_flags.py::test_settings_files"],
    "data files": ["tests/data/test_fuzz.py"],
    "encoder directories": ["tests/encoders/test_damage.py"],
    "run directories and checkpoints": [
        "tests/runs/test_hostile.py::test_any_bytes_in_any_file_give_the_true_state_or_one_message"
    ],
    "finished runs": [
        "tests/cli/test_hostile_runs.py::test_any_value_anywhere_is_read_or_one_message"
    ],
}
NO_CASES = "not names_are_unique and not memory_is_bounded and not any_bytes and not any_value"


class Notes:
    """A pytest plugin: of each case its outcome, message and exit code, and the examples drawn."""

    def __init__(self):
        self.cases: list[tuple[str, str, int, bool]] = []
        self.examples = 0
        self._errors: list[Exception] = []
        self._usage = False

    @property
    def failed(self) -> int:
        return sum(not passed for *_, passed in self.cases)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item):
        import blomix.cli
        from blomix.errors import InputError

        self._errors, self._usage = [], False

        def noted(error, *arguments):
            self._errors.append(error)

        def command(arguments):
            try:
                return plain_command(arguments)
            except SystemExit as stop:
                self._usage = stop.code == 2
                raise

        plain_init, plain_command = InputError.__init__, blomix.cli._main
        InputError.__init__, blomix.cli._main = noted, command
        try:
            return (yield)
        finally:
            InputError.__init__, blomix.cli._main = plain_init, plain_command
            drawn = re.findall(r"(\d+) passing", getattr(item, "hypothesis_statistics", ""))
            self.examples += sum(map(int, drawn))

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and not report.skipped:
            test = report.nodeid.split("::", 1)[1].removeprefix("test_").replace("_", " ")
            name = re.sub(r"\[(.*)\]$", r": \1", test)
            self.cases.append((name, *self._outcome(), report.passed))

    def _outcome(self) -> tuple[str, int]:
        """The last error's message and the exit code that comes with it."""
        if self._usage:
            return "usage, by the parser of the command line", 2
        if not self._errors:
            return "read, or mended", 0
        error = self._errors[-1]
        # A traceback begins at the frame that caught the error.
        catcher = Path(error.__traceback__.tb_frame.f_code.co_filename)
        by_user = catcher.is_relative_to(ROOT / "tests") or catcher.name == "entry.py"
        return str(error), 2 if by_user else 0


def run(paths: list[str], chosen: str = "") -> Notes:
    notes = Notes()
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(["-q", "-k", chosen, *paths], plugins=[notes])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"the tests of {', '.join(paths)} could not be run")
    return notes


def row(*cells) -> str:
    """A line of a Markdown table, whatever the cells hold."""
    texts = [html.escape(str(cell), quote=False).replace("|", "&#124;") for cell in cells]
    return f"| {' | '.join(texts)} |"


def case_row(entry: str, name: str, message: str, code: int, passed: bool) -> str:
    found = re.sub(r"[^\s(]*/pytest-of-[^/]+/pytest-\d+/[^/\s]+/?", "", message)
    found = " ".join(found.split())
    found = found if len(found) <= 200 else f"{found[:200]} ..."
    return row(entry, name, found, code if passed else "FAILED")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=150, help="fuzzed examples a test")
    os.environ["BLOMIX_FUZZ"] = str(parser.parse_args().examples)
    os.chdir(ROOT)
    by_hand = {entry: run(paths, NO_CASES) for entry, paths in BY_HAND.items()}
    fuzzed = {entry: run(paths) for entry, paths in FUZZED.items()}
    counts = [
        (len(cases.cases), cases.failed, fuzz.examples, fuzz.failed)
        for entry in by_hand | fuzzed
        for cases, fuzz in [(by_hand.get(entry, Notes()), fuzzed.get(entry, Notes()))]
    ]
    total = [sum(column) for column in zip(*counts, strict=True)]
    print("| entry | cases by hand | failed | fuzzed examples | tests failed |")
    print("|---|---:|---:|---:|---:|")
    for entry, numbers in zip([*(by_hand | fuzzed), "all"], [*counts, total], strict=True):
        print(row(entry, *numbers))
    print("\n| entry | case | message | exit code |\n|---|---|---|---:|")
    for entry, notes in by_hand.items():
        for case in notes.cases:
            print(case_row(entry, *case))
    return int(total[1] + total[3] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
