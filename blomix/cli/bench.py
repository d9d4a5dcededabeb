"""Run a study: a grid of tasks, sizes, methods and seeds, one JSON file a cell.

Stop it at any time; the same command goes on with the cells that are left. Several processes of one
machine may run the same command at once: they divide the work between them. docs/studies.md has
the format of a study.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from blomix.errors import InputError


@dataclass(frozen=True)
class Config:
    """Flags of `blomix bench`."""

    study: Annotated[Path, tyro.conf.Positional]
    """Folder with study.toml and a TOML file a variant."""
    model: str | None = None
    """Directory or hub id of a pretrained encoder; needed unless --summarize."""
    data: Path = Path("../shared/data")
    """Folder that has a folder a task."""
    results: Path | None = None
    """Folder of the cells' files; STUDY/results if left out."""
    width: int = 1
    """Runs that are trained side by side, and lanes (runs, folds) that one step advances. A cell's
    last bits depend on it, so that cells of another width run again."""
    shard: str = "1/1"
    """i/n, the i-th of n machines' parts of the study."""
    select: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Run what matches VARIANT/TASK/N, such as 'plain*/cola/*'. May be repeated."""
    retry: bool = False
    """Run cells again that failed."""
    commit: str | None = None
    """Commit to record where there is no checkout that says it."""
    summarize: bool = False
    """Run nothing; write results.md, results.csv and figures of what is there, into STUDY (or
    --results)."""
    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    from blomix.bench import read_study
    from blomix.runs import EXIT_CODES, Interrupted
    from blomix.runs.files import storage

    study = read_study(config.study)
    results = config.results or study.folder / "results"
    if config.summarize:
        from blomix.bench.summary import summarize

        # Cells that were put elsewhere may be others than the study's own.
        folder = study.folder if config.results is None else results
        with storage(folder, "write the summary in"):
            return summarize(study, results, folder)
    if config.model is None:
        raise InputError("--model: expected a directory or hub id, found none")
    if config.width < 1:
        raise InputError(f"--width: expected at least 1, found {config.width}")
    from blomix.bench.jobs import Workshop
    from blomix.bench.runner import Bench

    bench = Bench(
        Workshop(study, config.model, config.data),
        results,
        width=config.width,
        shard=parts(config.shard),
        select=config.select,
        retry=config.retry,
        commit=config.commit,
    )
    try:
        with storage(results, "write the cells' results in"):
            return bench.run()
    except KeyboardInterrupt:
        import signal

        raise Interrupted(EXIT_CODES[signal.SIGINT]) from None


def text(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in result.items())


def parts(shard: str) -> tuple[int, int]:
    """`"i/n"` as (i, n)."""
    part, _, whole = shard.partition("/")
    if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise InputError(f"--shard: expected i/n with 1 <= i <= n, found {shard!r}")
    return int(part), int(whole)
