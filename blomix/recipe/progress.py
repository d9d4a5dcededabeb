"""Progress on the terminal: bars with the time left, silence where nobody watches."""

import sys
from contextlib import contextmanager


class Progress:
    """Bars on a terminal, nothing elsewhere; `note` lines go to stderr unless `quiet`."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.live = not quiet and sys.stderr.isatty()

    def note(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def compiling(self, name: str):
        """A line that moves while a phase's step is compiled."""
        if not self.live:
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(f"{name}: compiling"):
            yield

    @contextmanager
    def phase(self, name: str, start: int, steps: int):
        """Yields a function to call after each step."""
        if not self.live or start >= steps:
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(name, total=steps, completed=start)
            yield lambda: bars.advance(task)
