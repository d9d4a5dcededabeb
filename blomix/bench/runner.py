"""Runs the cells of a study that have no result yet."""

import contextlib
import dataclasses
import fcntl
import fnmatch
import json
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from blomix.bench.jobs import Workshop, program_of
from blomix.bench.study import Cell, Study
from blomix.data import leakage
from blomix.errors import InputError, is_out_of_memory
from blomix.evaluation import metrics
from blomix.recipe.drive import drive
from blomix.recipe.finetune import describe
from blomix.recipe.job import predict_logits
from blomix.recipe.phase import Fitted, Unrecorded
from blomix.recipe.progress import Progress
from blomix.recipe.training import Training
from blomix.runs import environment, files
from blomix.small_files import read_text

Record = dict[str, Any]
_NAMED = {"config", "kind", "subset_seed", "model"}  # what tells a record from another cell's


class Forgetful(Unrecorded):
    """A recorder that keeps nothing: a study has millions of steps."""

    def log(self, record):
        pass


@dataclasses.dataclass(frozen=True)
class Bench:
    """One process's work on a study.

    Attributes:
      workshop: loads models and data.
      results: folder of the cells' files.
      width: most cells that are trained side by side, and lanes that one compiled step advances.
      shard: (i, n), the i-th of n machines' parts, from 1.
      select: patterns of VARIANT/TASK/N; () selects all.
      retry: run cells again that failed.
      commit: what to record where the checkout does not say it.
    """

    workshop: Workshop
    results: Path
    width: int = 1
    shard: tuple[int, int] = (1, 1)
    select: tuple[str, ...] = ()
    retry: bool = False
    commit: str | None = None

    def run(self) -> dict[str, int]:
        """Runs what is left; other processes of the same folder take turns by file locks."""
        units = self.units()
        groups = [(name, group) for name, cells in units for group in self.groups(cells)]
        total = sum(len(group) for _, group in groups)
        watch = Watch(total, sum(self.finished(cell) for _, group in groups for cell in group))
        for name, pairs in groupby(groups, key=lambda pair: pair[0]):
            with self.claim(name) as mine:
                if not mine:
                    note(f"{name}: left to the process that works on it")
                for _, group in pairs if mine else ():
                    left = sum(not self.finished(cell) for cell in group)
                    if left:
                        watch.add(group[0], self.run_group(group), left)
        return self.count([cell for _, group in groups for cell in group])

    def units(self) -> list[tuple[str, list[Cell]]]:
        """This shard's part of the grid. The cells of a unit, one variant at one length of rows,
        share compiled steps, so that no two processes should divide them."""
        units: dict[str, list[Cell]] = {}
        cells = self.workshop.study.cells()
        places = [f"{cell.variant.label}/{cell.task.name}/{cell.n}" for cell in cells]
        for pattern in self.select:
            if not fnmatch.filter(places, pattern):
                raise InputError(
                    f"--select {pattern}: no cell of {self.workshop.study.folder} matches; a cell "
                    f"is VARIANT/TASK/N, such as {places[0]}"
                )
        for cell, place in zip(cells, places, strict=True):
            if not self.select or any(fnmatch.fnmatch(place, pattern) for pattern in self.select):
                units.setdefault(f"{cell.variant.name}-{cell.task.max_length}", []).append(cell)
        part, parts = self.shard
        return list(units.items())[part - 1 :: parts]

    def groups(self, cells: list[Cell]) -> Iterator[list[Cell]]:
        """Cells that advance together: of one size, one program and one shape. What a group holds
        does not depend on what is finished, so that a cell reruns to the same bits."""
        alike: dict[Any, list[Cell]] = {}
        for cell in cells:
            model = self.workshop.encoder(cell.task, cell.variant).model
            program = program_of(self.workshop.method(cell))
            alike.setdefault((cell.n, cell.task.max_length, model, program), []).append(cell)
        for group in alike.values():
            yield from (group[i : i + self.width] for i in range(0, len(group), self.width))

    @contextlib.contextmanager
    def claim(self, unit: str) -> Iterator[bool]:
        """Whether this process alone works on the unit; the lock dies with the process."""
        folder = self.results / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / unit, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def finished(self, cell: Cell) -> bool:
        """Whether a cell has a result that need not be tried again; raises as `is_own`."""
        record = read_record(self.results / cell.path)
        if record is None or ("error" in record and self.retry):
            return False
        return self.is_own(cell, record)

    def is_own(self, cell: Cell, record: Record) -> bool:
        """Whether a cell's record is of these very settings and rows.

        Raises:
          InputError: it is of another encoder, and is not to be written over.
        """
        source, found = Path(self.workshop.model).name, record["model"]["source"]
        told = config_of(record, self.workshop.method(cell))
        same = is_of(cell, record) and told == self.config(cell)
        own = self.workshop.digests(cell)
        there = own | record.get("digests", {})
        other = same and there["weights"] != own["weights"]
        if found != source or other:
            what = "one of other weights" if found == source else f"one of {found!r}"
            raise InputError(
                f"{self.results / cell.path}: expected a result of the encoder {source!r}, found "
                f"{what}; give --results another folder"
            )
        return same and there == own

    def config(self, cell: Cell) -> Record:
        """All that decides a cell's outcome beside data, versions and device."""
        method = self.workshop.method(cell)
        return settings_of(self.workshop.study, cell, method) | {"width": self.width}

    def run_group(self, group: list[Cell]) -> list[Record]:
        """Runs cells together and writes their files; one by one where that fails."""
        try:
            records = self.train_in_memory(group)
        except Exception as error:  # whatever one method or cell does wrong, the study goes on
            if len(group) > 1:
                note(f"{group[0].path.parent}: {error_line(error)}; its cells are run one by one")
                return [record for cell in group for record in self.run_group([cell])]
            records = [self.describe(group[0]) | {"error": error_line(error)}]
        for cell, record in zip(group, records, strict=True):
            if "error" in record and self.finished(cell):
                continue  # it ran again beside one that was missing, and what it had stands
            path = self.results / cell.path
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, record)
        return records

    def train_in_memory(self, group: list[Cell]) -> list[Record]:
        """Trains cells in steps of `width` lanes, or of half as many until they fit."""
        width = self.width
        while True:
            try:
                return self.train(group, width)
            except Exception as error:
                if width == 1 or not is_out_of_memory(error):
                    raise
            width = -(-width // 2)
            note(f"{group[0].path.parent}: out of memory; now {width} lanes a step")

    def train(self, group: list[Cell], width: int) -> list[Record]:
        started = time.monotonic()
        jobs = [self.workshop.job(cell) for cell in group]
        fits = [self.workshop.method(cell).fit(job) for cell, job in zip(group, jobs, strict=True)]
        fitted, steps, gradients = drive(fits, Forgetful(), Progress(quiet=True), width)
        seconds = (time.monotonic() - started) / len(group)
        cost = {"steps": steps, "gradient_evaluations": gradients, "seconds": round(seconds, 3)}
        together = {"cells": len(group), "lanes": width}
        return [
            self.describe(cell) | self.scores(cell, job, one) | cost | together
            for cell, job, one in zip(group, jobs, fitted, strict=True)
        ]

    def describe(self, cell: Cell) -> Record:
        """What is known of a cell before it is trained."""
        train, scored = self.workshop.examples(cell.task)
        subset = self.workshop.subset(cell.task, cell.n, cell.subset_seed)
        found = machine()
        return {
            "task": cell.task.name,
            "n": cell.n,
            "method": cell.variant.label,
            "kind": cell.variant.method,
            "seed": cell.seed,
            "subset_seed": cell.subset_seed,
            "metric": train.metric,
            "score": None,
            "majority_score": metrics.majority(
                train.metric, subset.targets, scored.targets, train.num_labels
            ),
            "scored_rows": len(scored),
            "leaked_rows": leakage(subset, scored)["rows"],
            "steps": None,
            "gradient_evaluations": None,
            "seconds": None,
            "digests": self.workshop.digests(cell),
            "config": self.config(cell),
            "model": describe(self.workshop.encoder(cell.task, cell.variant))
            | {"source": Path(self.workshop.model).name},
            "environment": found | {"commit": found["commit"] or self.commit},
        }

    def scores(self, cell: Cell, job, fitted: Fitted) -> Record:
        _, scored = self.workshop.examples(cell.task)
        logits = predict_logits(job.encoder, fitted.params, self.workshop.scored_arrays(cell))
        scores = metrics.evaluate(scored.metric, scored.targets, logits)
        shares = [float(np.mean(share)) for share in fitted.shares.values()]
        facts = fitted.facts | ({"mean_share": float(np.mean(shares))} if shares else {})
        return {"score": scores["score"], "metrics": scores, "facts": facts}

    def count(self, cells: list[Cell]) -> dict[str, int]:
        found = [(cell, read_record(self.results / cell.path)) for cell in cells]
        own = [record for cell, record in found if record and self.is_own(cell, record)]
        failed = sum("error" in record for record in own)
        return {"cells": len(cells), "finished": len(own) - failed, "failed": failed}


class Watch:
    """Progress lines on stderr, with an estimate of the time left."""

    def __init__(self, total: int, done: int):
        self.total, self.done, self.before, self.failed = total, done, done, 0
        self.started = time.monotonic()

    def add(self, cell: Cell, records: list[Record], left: int) -> None:
        """`left` of a group were to be done; those that had been are run beside them again."""
        self.done += left
        self.failed += sum("error" in record for record in records)
        spent = time.monotonic() - self.started
        to_go = spent / (self.done - self.before) * (self.total - self.done)
        scores = [record["score"] for record in records if record["score"] is not None]
        mean = f"{np.mean(scores):.3f}" if scores else "failed"
        note(
            f"{self.done}/{self.total} cells, {self.failed} failed, {spent / 60:.1f} min, about "
            f"{to_go / 60:.1f} min left | {cell.variant.label} {cell.task.name} {cell.n}: {mean}"
        )


def settings_of(study: Study, cell: Cell, method: Training) -> Record:
    """What of a cell's `config` the study says."""
    settings = {
        "method": dataclasses.asdict(method),
        "encoder": cell.variant.model,
        "task": dataclasses.asdict(cell.task),
        "validation_rows": study.validation_rows,
    }
    return files.plain(settings)


def config_of(record: Record, method: Training) -> Record:
    """A record's `config`, with the settings that the method has got since."""
    defaults = files.plain(method.defaults())
    return record["config"] | {"method": defaults | record["config"]["method"]}


def is_of(cell: Cell, record: Record) -> bool:
    """Whether the parts of a cell that its record names beside `config` are those of the record."""
    return (record["kind"], record["subset_seed"]) == (cell.variant.method, cell.subset_seed)


def read_record(path: Path) -> Record | None:
    """A cell's result, None where there is none."""
    try:
        record = json.loads(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a cell's result, found {error}; delete it") from None
    if not is_record(record):
        raise InputError(f"{path}: expected a cell's result, found something else; delete it")
    return record


def is_record(value: Any) -> bool:
    """Whether a JSON value has what a cell's result is known by."""
    if not isinstance(value, dict) or not value.keys() >= _NAMED:
        return False
    config, model = value["config"], value["model"]
    if not isinstance(config, dict) or not isinstance(model, dict) or "source" not in model:
        return False
    return isinstance(config.get("method"), dict)


@lru_cache(maxsize=1)
def machine() -> Record:
    return environment.describe()


def error_line(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}"


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
