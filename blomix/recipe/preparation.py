"""What a run is trained on: arguments that fit each other, examples split and encoded, remarks."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix.data import (
    Examples,
    cut_remarks,
    empty_remarks,
    examples_of,
    holdout,
    leak_remarks,
    reading,
    remarks,
)
from blomix.errors import InputError
from blomix.recipe import artifacts
from blomix.recipe.job import Job
from blomix.recipe.program import Placement
from blomix.recipe.progress import Progress
from blomix.recipe.training import Training

if TYPE_CHECKING:
    from blomix.encoders import Encoder

Labelled = Examples | tuple[Sequence, Sequence]


def prepare(
    model: "Encoder",
    train: Labelled,
    validation: Labelled | None,
    recipe: Training,
    seed: int,
    max_length: int,
    place: Placement,
    progress: Progress,
) -> tuple[Job, Examples, Examples, dict[str, Any]]:
    """(training task, all its examples, the scored ones, record of the splits); tells what may be a
    mistake in them.

    Raises:
      InputError: what cannot be trained.
    """
    check_arguments(model, recipe, seed)
    check_parts(recipe, place.rows, place.lanes)
    model, train, validation = matched(model, *splits(model, train, validation, seed, progress))
    job = job_of(model, train, recipe, seed, max_length)
    rows = artifacts.splits_record(job, recipe, validation)
    if not progress.quiet:
        for line in remarks_on(job, validation, rows):
            progress.note(line)
    return job, train, validation, rows


def check_arguments(model: "Encoder", recipe: Training, seed: int) -> None:
    """Raises InputError at an argument of another kind: what a person may well try."""
    from blomix.encoders import Encoder

    if not isinstance(model, Encoder):
        raise InputError(
            f"model: expected an encoder, as Encoder.from_pretrained gives, found {model!r}"
        )
    if not isinstance(recipe, Training):
        raise InputError(f"recipe: expected a method such as Recipe() or Plain(), found {recipe!r}")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InputError(f"seed: expected a whole number from 0 to 2^63 - 1, found {seed!r}")


def check_parts(recipe: Training, rows: int, lanes: int) -> None:
    """Raises InputError unless what is computed at once of a batch divides into `rows` parts, and
    the method's lanes into `lanes`: those of a mesh."""
    at_once = recipe.batch_size // recipe.accumulate
    if at_once % rows:
        raise InputError(
            f"mesh: {at_once} rows of a batch (batch_size {recipe.batch_size}, accumulate "
            f"{recipe.accumulate}) cannot be split evenly over {rows} devices; give another "
            "mesh or batch size"
        )
    if recipe.lanes > 1 and recipe.lanes % lanes:
        raise InputError(
            f"mesh: {recipe.lanes} folds or finishes cannot be split evenly over {lanes} "
            "devices; give another mesh or number of them"
        )


def splits(
    model: "Encoder",
    train: Labelled,
    validation: Labelled | None,
    seed: int,
    progress: Progress,
):
    """Training and scored examples; the latter are held out where there are none."""
    train = examples_of(train, regression=model.regression or None)
    train.targets  # noqa: B018 - raises where there are none
    progress.note(reading(train))
    if validation is not None:
        scored = examples_of(validation, like=train)
        scored.targets  # noqa: B018
        scored.check_paired(train.pairs is not None, "the training examples")
        return train, scored
    rows, held = holdout(train, 0.2, seed)
    progress.note(
        f"no validation data: {len(held)} of {len(train)} examples, of each label its share, "
        "are held out for the score"
    )
    return train.select(rows), train.select(held)


def matched(model: "Encoder", train: Examples, validation: Examples):
    """The three with one numbering of the classes: the model's, where it names them.

    Raises:
      InputError: a head for other labels than these.
    """
    needed = train.is_regression, train.num_labels
    if needed != (model.regression, model.num_labels):
        heads = [
            "values" if regression else f"{number} classes"
            for regression, number in (needed, (model.regression, model.num_labels))
        ]
        raise InputError(
            f"model: expected a head for {heads[0]}, as {train.name} has them, found one for "
            f"{heads[1]}; load it with Encoder.from_pretrained(path, num_labels, regression=...)"
        )
    names = model.label_names or train.label_names
    if set(names or ()) != set(train.label_names or ()):
        raise InputError(
            f"model: expected a head for the classes {', '.join(train.label_names or ())} of "
            f"{train.name}, found one for {', '.join(names or ())}; load it with "
            "Encoder.from_pretrained(path, label_names=...)"
        )
    model = replace(model, labels=replace(model.labels, names=names))
    return model, train.like(names, model.regression), validation.like(names, model.regression)


def job_of(model: "Encoder", train: Examples, recipe: Training, seed: int, max_length: int) -> Job:
    """The training task; with `recipe.patience` another 20 % is held out, to stop on."""
    held = held_arrays = None
    if recipe.patience is not None:
        rows, held_rows = holdout(train, 0.2, seed)
        train, held = train.select(rows), train.select(held_rows)
        held_arrays = model.encode(held, max_length)
    if len(np.unique(train.targets)) < 2:
        kind = "different values" if train.is_regression else "classes"
        raise InputError(
            f"{train.name}: expected training rows of two {kind} or more, found {len(train)} "
            f"labelled {train.label(0)!r}"
        )
    arrays = model.encode(train, max_length)
    return Job(model, train, arrays, seed, max_length, held, held_arrays)


def remarks_on(job: Job, validation: Examples, rows: dict[str, Any]) -> Iterator[str]:
    """What may be a mistake in the data, or in the length that its texts are given; `rows` is the
    record of the splits."""
    yield from remarks(job.train, rows["duplicates"]["train"])
    yield from empty_remarks(validation, "scored")
    yield from leak_remarks(validation, rows["leakage"])
    yield from cut_remarks(job.train, job.encoder.tokenizer, job.arrays, job.max_length)
