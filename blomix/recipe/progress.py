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
    def phase(self, name: str, start: int, steps: int):
        """Yields a function to call after each step. The first call ends the compilation line."""
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
            task = bars.add_task(f"{name}: compiling", total=steps, completed=start)

            def tick():
                bars.update(task, description=name, advance=1)

            yield tick
