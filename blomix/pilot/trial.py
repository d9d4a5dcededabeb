"""The trial itself: methods, splits and training sizes, as many as the time budget holds."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blomix.data import Examples, holdout, subsample
from blomix.errors import InputError, is_out_of_memory
from blomix.pilot.decision import Cell
from blomix.recipe.finetune import finetune
from blomix.recipe.training import Training
from blomix.runs import NonFinite

if TYPE_CHECKING:
    from blomix.encoders import Encoder

TESTED = 0.25  # of the examples in each split
SIZES = (0.25, 0.5, 1.0)  # of a split's training part
FEWEST = 12  # examples; fewer cannot be split into anything that says something


@dataclass(frozen=True)
class Task:
    """One model to train."""

    method: str
    split: int
    size: float


def run_trial(
    encoder: "Encoder",
    examples: Examples,
    methods: Mapping[str, Training],
    budget: float,
    *,
    seed: int = 0,
    max_length: int = 128,
    splits: int = 10,
    note: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Cell], dict[str, str]]:
    """Trains and scores every method on stratified splits until the budget is spent.

    A model that would not fit into what is left of the budget is passed over; how long it would
    take is judged by earlier ones of its method. The first model is trained whatever the budget.
    What has been trained is never lost: Ctrl-C ends the trial there, and a method that diverges, or
    that memory does not suffice for, trains no more.

    Args:
      encoder: pretrained, with a head for the examples' labels.
      examples: all the labelled examples there are.
      methods: by name, the cheapest first.
      budget: seconds.
      splits: most splits.
      note: told what is trained, a line a model.

    Returns:
      The trained models, and why methods were left out that failed, or that the trial's stop kept
      from the first of theirs.

    Raises:
      InputError: too few examples to split, no split asked for, or no method that can be trained.
    """
    if splits < 1:
        raise InputError(f"expected at least one split, found {splits}")
    if len(examples) < FEWEST:
        raise InputError(
            f"{examples.name}: {len(examples)} labelled examples are too few for a trial; it needs "
            f"at least {FEWEST}"
        )
    # Each class and each fold of a method has to have an example.
    fewest = max(2, examples.num_labels, *(method.lanes for method in methods.values()))
    most = len(holdout(examples, TESTED, seed)[0])
    if most < fewest:
        raise InputError(
            f"{examples.name}: of {len(examples)} labelled examples a split trains on {most}, too "
            f"few to give each of {fewest} folds or classes one; ask for fewer folds, or label more"
        )
    started, cells = clock(), []
    failed: dict[str, Exception] = {}
    stopped: dict[str, str] = {}
    for task in plan(tuple(methods), splits):
        if task.method in failed:
            continue
        left = budget - (clock() - started)
        if left <= 0 and cells:
            break
        train, tested = _split(examples, task, seed, fewest)
        again = (task.method, task.split, len(train))  # as another size, where both are too small
        if any((cell.method, cell.split, cell.n) == again for cell in cells):
            continue
        if _expected(cells, task.method, len(train)) > left:
            continue
        begun = clock()
        try:
            result = finetune(
                encoder,
                train,
                tested,
                methods[task.method],
                seed=seed + task.split,
                max_length=max_length,
                quiet=True,
            )
        except KeyboardInterrupt:
            if not cells:
                raise
            note("stopped: the models trained so far decide")
            begun_with = {cell.method for cell in cells}
            stopped = {method: "the trial was stopped" for method in methods.keys() - begun_with}
            break
        except Exception as error:
            if not (isinstance(error, NonFinite) or is_out_of_memory(error)):
                raise
            failed[task.method] = error
            note(f"{task.method} is left out: {error}")
            continue
        score, majority = result.score, result.summary["majority_score"]
        del result  # its weights, while the next model trains
        cells.append(
            Cell(
                method=task.method,
                n=len(train),
                split=task.split,
                score=score,
                majority=majority,
                tested=len(tested),
                seconds=clock() - begun,
            )
        )
        note(f"{task.method}, split {task.split + 1}, {len(train)} labels: {score:.3f}")
    if not cells:
        raise next(iter(failed.values()))
    return cells, stopped | {method: str(error) for method, error in failed.items()}


def plan(methods: tuple[str, ...], splits: int) -> Iterator[Task]:
    """The order of work: what a decision needs most comes first.

    Method by method two small models (the first compiles, the second tells its pace) and three
    splits with all the labels, the fewest whose interval says something, so that the cheap ones are
    judged in a budget too small for the others. Then, all methods abreast, the sizes between for
    the learning curve, then more splits.
    """
    small, full, between = SIZES[0], SIZES[-1], SIZES[1:-1]
    first = [(0, small), (1, small), (0, full), (1, full), (2, full)]
    later = [(split, size) for size in between for split in (0, 1)]
    later += [(split, size) for split in range(2, splits) for size in (full, small, *between)]
    for method in methods:
        yield from (Task(method, split, size) for split, size in first if split < splits)
    for split, size in later:
        if split < splits and (split, size) not in first:
            yield from (Task(method, split, size) for method in methods)


def _split(examples: Examples, task: Task, seed: int, fewest: int) -> tuple[Examples, Examples]:
    """(training part, scored part) of a task: nested in size, the same for all methods."""
    rows, tested = holdout(examples, TESTED, seed + task.split)
    train = examples.select(rows)
    n = max(round(task.size * len(train)), fewest)
    return subsample(train, n, seed + task.split), examples.select(tested)


def _expected(cells: list[Cell], method: str, n: int) -> float:
    """Seconds for `n` labels at the pace of the method's largest model so far; 0 before any."""
    own = [cell for cell in cells if cell.method == method]
    if not own:
        return 0.0
    own = own[1:] or own  # the first also took the time to compile
    largest = max(own, key=lambda cell: cell.n)
    return largest.seconds * n / largest.n
