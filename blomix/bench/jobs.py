"""From a cell to what is trained: its method, its encoder, its examples."""

import dataclasses
import inspect
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from blomix import _trees
from blomix.baselines import METHODS
from blomix.bench.study import Cell, Study, TaskSpec, Variant
from blomix.data import Examples, holdout, load, subsample
from blomix.encoders import Encoder
from blomix.errors import InputError
from blomix.recipe import Recipe, Training
from blomix.recipe.drive import account
from blomix.recipe.finetune import tree_digest
from blomix.recipe.job import Job
from blomix.recipe.probe import head_of

# The rates that lie in the state of a step, not in its program: methods that differ in nothing else
# can advance together.
RATES = ("learning_rate", "search_learning_rate", "outer_learning_rate")


@dataclass(frozen=True, eq=False)
class Workshop:
    """Loads what cells share, once a process.

    Attributes:
      study: the study.
      model: directory or hub id of the encoder.
      data: folder that has a folder a task.
    """

    study: Study
    model: str
    data: Path

    def job(self, cell: Cell) -> Job:
        """The training task of a cell. Its head is new, drawn from the cell's seed."""
        train, _ = self.examples(cell.task)
        subset = subsample(train, cell.n, cell.subset_seed)
        encoder = self.encoder(cell.task, cell.variant)
        arrays = _padded(subset, encoder, cell.task)
        return Job(
            with_new_head(encoder, cell.seed), subset, arrays, cell.seed, cell.task.max_length
        )

    def method(self, cell: Cell) -> Training:
        """The method of a cell, at the cost of another where the variant says so."""
        method = build(cell.variant)
        examples, _ = self.examples(cell.task)
        method = dataclasses.replace(method, head_init=head_of(method.head_init, examples))
        if cell.variant.match is None:
            return method
        other = dataclasses.replace(cell, variant=self.study.variants[cell.variant.match])
        epochs = matched_epochs(cell, method.batch_size, *self.cost(other))
        return dataclasses.replace(method, epochs=epochs)

    def cost(self, cell: Cell) -> tuple[int, float]:
        """Steps and gradient evaluations of a cell; no seed changes them."""
        return self._cost(cell.variant.name, cell.task, cell.n)

    @cache  # noqa: B019
    def _cost(self, variant: str, task: TaskSpec, n: int) -> tuple[int, float]:
        cell = Cell(self.study.variants[variant], task, n, seed=0, subset_seed=0)
        return account(self.method(cell).fit(self.job(cell)))

    @cache  # noqa: B019 - one workshop a process
    def examples(self, task: TaskSpec) -> tuple[Examples, Examples]:
        """What training examples are drawn from, and what is scored."""
        columns: dict[str, Any] = {
            "text": task.text,
            "text_pair": task.text_pair,
            "label": task.label,
        }
        train = load(self.data / task.folder, **columns, split=task.train)
        most = self.study.validation_rows
        if task.validation == "holdout":
            rows, held = holdout(train, most / len(train), seed=0)
            return train.select(rows), train.select(held)
        scored = load(self.data / task.folder, **columns | train.kind, split=task.validation)
        return train, scored.select(range(min(most, len(scored))))

    def encoder(self, task: TaskSpec, variant: Variant) -> Encoder:
        """The pretrained encoder with an output a class of the task."""
        known = inspect.getfullargspec(Encoder.from_pretrained).kwonlyargs
        for name in variant.model:
            if name not in known:
                raise InputError(
                    f"{variant.name}: an encoder has no option {name!r}; it has {', '.join(known)}"
                )
        return self._encoder(task, json.dumps(variant.model, sort_keys=True, default=str))

    @cache  # noqa: B019
    def _encoder(self, task: TaskSpec, options: str) -> Encoder:
        train, _ = self.examples(task)
        return Encoder.from_pretrained(self.model, **train.head, **json.loads(options))

    def weights(self, cell: Cell) -> str:
        """A digest of the pretrained weights, those that are drawn anew for a task left out."""
        return self._weights(self.encoder(cell.task, cell.variant))

    @cache  # noqa: B019
    def _weights(self, encoder: Encoder) -> str:
        leaves = _trees.by_path(encoder.params).items()
        kept = {path: leaf for path, leaf in leaves if not encoder.is_head(path.split("/"))}
        return tree_digest(kept)[:16]

    def scored_arrays(self, cell: Cell) -> dict[str, np.ndarray]:
        return self._scored_arrays(cell.task, self.encoder(cell.task, cell.variant))

    @cache  # noqa: B019
    def _scored_arrays(self, task: TaskSpec, encoder: Encoder) -> dict[str, np.ndarray]:
        return _padded(self.examples(task)[1], encoder, task)


def build(variant: Variant) -> Training:
    """A variant's method; `learning_rate` is also the search's unless that is told.

    Raises:
      InputError: no such method, no such setting of it, or a setting of another type.
    """
    if variant.method not in METHODS:
        raise InputError(
            f"{variant.name}: no method {variant.method!r}; there are {', '.join(METHODS)}"
        )
    kind = METHODS[variant.method]
    settings = variant.settings | variant.swept
    fields = {field.name: getattr(kind, field.name) for field in dataclasses.fields(kind)}
    for name, value in settings.items():
        if name not in fields:
            raise InputError(
                f"{variant.name}: {variant.method} has no setting {name!r}; it has "
                f"{', '.join(fields)}"
            )
        expected = int if fields[name] is None else type(fields[name])
        if type(value) not in ((float, int) if expected is float else (expected,)):
            raise InputError(
                f"{variant.name}: {name}: expected a value of type {expected.__name__}, "
                f"found {value!r}"
            )
    if "search_learning_rate" in fields and "learning_rate" in settings:
        settings = {"search_learning_rate": settings["learning_rate"]} | settings
    if settings.get("patience") is not None:
        raise InputError(
            f"{variant.name}: patience: a study holds no examples out to stop early by"
        )
    make = {"paper": Recipe.paper, "released": Recipe.released}.get(variant.recipe, kind)
    return make(**settings)


def matched_epochs(cell: Cell, batch_size: int, steps: int, gradients: float) -> float:
    """The epochs in which a cell costs what its variant is to match: that many steps, or gradient
    evaluations."""
    wanted = steps if cell.variant.match_by == "steps" else gradients
    return wanted / -(-cell.n // batch_size)


def with_new_head(encoder: Encoder, seed: int) -> Encoder:
    """The encoder with the parts that are no part of pretraining drawn from `seed`."""
    key = jax.random.key(seed)
    new: dict[str, Any] = {
        part: encoder.model.init_part(part, key)
        for part in encoder.model.parts
        if encoder.is_head((part, "kernel"))
    }
    return dataclasses.replace(encoder, params=encoder.params | new)


def program_of(method: Training) -> Training:
    """The method with its rates set aside: equal where steps compile to one program."""
    names = {field.name for field in dataclasses.fields(method)}
    return dataclasses.replace(method, **{name: 1.0 for name in RATES if name in names})


def _padded(examples: Examples, encoder: Encoder, task: TaskSpec) -> dict[str, np.ndarray]:
    return encoder.encode(examples, task.max_length, multiple=task.max_length)
