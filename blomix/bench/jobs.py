"""From a cell to what is trained: its method, its encoder, its examples."""

import dataclasses
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from blomix import _trees
from blomix.baselines import METHODS
from blomix.bench.study import Cell, Cost, Study, TaskSpec, Variant
from blomix.data import Examples, digest_of, holdout, load, subsample
from blomix.encoders import Encoder
from blomix.errors import InputError
from blomix.recipe import Recipe, Training
from blomix.recipe.drive import account
from blomix.recipe.finetune import tree_digest
from blomix.recipe.job import Job
from blomix.recipe.probe import head_of

# What the data say of an encoder's head, not the study.
_OF_THE_DATA = {"num_labels", "label_names", "regression"}
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
        subset = self.subset(cell.task, cell.n, cell.subset_seed)
        encoder = self.encoder(cell.task, cell.variant)
        arrays = _padded(subset, encoder, cell.task)
        return Job(
            with_new_head(encoder, cell.seed), subset, arrays, cell.seed, cell.task.max_length
        )

    def method(self, cell: Cell) -> Training:
        """The method of a cell, at the cost of another where the variant says so; no seed changes
        it."""
        return self._method(cell.variant.label, cell.task, cell.n)

    @cache  # noqa: B019
    def _method(self, label: str, task: TaskSpec, n: int) -> Training:
        variant = self._variant(label)
        method = build(variant)
        examples, _ = self.examples(task)
        method = dataclasses.replace(method, head_init=head_of(method.head_init, examples))
        if variant.match is None:
            return method
        other = self.study.matched(variant)
        kind = get_args(Cost).index(variant.match_by)

        def cost(own: Variant, method: Training) -> float:
            return self._cost(own.name, task, n, program_of(method))[kind]

        wanted = cost(other, self._method(other.label, task, n))
        return matching(variant, method, wanted, partial(cost, variant))

    @cache  # noqa: B019
    def _cost(self, name: str, task: TaskSpec, n: int, program: Training) -> tuple[int, float]:
        """Steps and gradient evaluations of a method, at any rate, with a variant's encoder."""
        return account(program.fit(self.job(Cell(self.study.variants[name], task, n, 0, 0))))

    def _variant(self, label: str) -> Variant:
        return next(point for point in self.study.points if point.label == label)

    @cache  # noqa: B019 - one workshop a process
    def examples(self, task: TaskSpec) -> tuple[Examples, Examples]:
        """What training examples are drawn from, and what is scored."""
        columns: dict[str, Any] = {
            "text": task.text,
            "text_pair": task.text_pair,
            "label": task.label,
        }
        folder = self.data / task.folder
        if not folder.exists():  # a name without one may be a data set of the hub
            raise InputError(f"tasks.{task.name}: no folder {folder}; --data says where it lies")
        train = load(folder, **columns, split=task.train)
        most = self.study.validation_rows
        if task.validation == "holdout":
            if most >= len(train):
                raise InputError(
                    f"tasks.{task.name}: validation: expected more rows to hold {most} out of "
                    f"(validation_rows), found {len(train)} in {train.source}"
                )
            rows, held = holdout(train, most / len(train), seed=0)
            return train.select(rows), train.select(held)
        scored = load(folder, **columns | train.kind, split=task.validation)
        scored.check_paired(train.pairs is not None, "the training examples")
        return train, scored.select(range(min(most, len(scored))))

    @cache  # noqa: B019
    def subset(self, task: TaskSpec, n: int, subset_seed: int) -> Examples:
        """The training examples of a cell."""
        return subsample(self.examples(task)[0], n, subset_seed)

    def digests(self, cell: Cell) -> dict[str, str]:
        """Of the training examples, of those scored, and of the pretrained weights."""
        subset = self.subset(cell.task, cell.n, cell.subset_seed)
        return {
            "train": digest_of(subset.digests)[:16],
            "validation": self._scored_digest(cell.task),
            "weights": self.weights(cell),
        }

    @cache  # noqa: B019
    def _scored_digest(self, task: TaskSpec) -> str:
        return digest_of(self.examples(task)[1].digests)[:16]

    def encoder(self, task: TaskSpec, variant: Variant) -> Encoder:
        """The pretrained encoder with an output a class of the task."""
        arguments = inspect.getfullargspec(Encoder.from_pretrained).kwonlyargs
        known = [name for name in arguments if name not in _OF_THE_DATA]
        for name in variant.model:
            if name not in known:
                raise InputError(
                    f"{variant.name}: an encoder has no option {name!r}; it has {', '.join(known)}"
                )
        return self._encoder(task, json.dumps(variant.model, sort_keys=True, default=str))

    @cache  # noqa: B019
    def _encoder(self, task: TaskSpec, options: str) -> Encoder:
        train, _ = self.examples(task)
        encoder = Encoder.from_pretrained(self.model, **train.head, **json.loads(options))
        encoder.check_length(task.max_length)
        return encoder

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


def matching(
    variant: Variant, method: Training, wanted: float, cost: Callable[[Training], float]
) -> Training:
    """`method` with the epochs in which it costs `wanted`.

    What it costs is a line in its epochs, told by two points; what it does beside (folds, a Fisher
    epoch) counts too.

    Raises:
      InputError: no number of epochs costs that.
    """
    one, two = (cost(dataclasses.replace(method, epochs=epochs)) for epochs in (1.0, 2.0))
    slope = two - one
    beside = one - slope
    if slope <= 0 or wanted <= beside:
        raise InputError(
            f"{variant.name}: match: expected a method that can cost {wanted:g} "
            f"{variant.match_by}, as {variant.match} does, found one that costs {beside:g} beside "
            f"its epochs, and {slope:g} in each"
        )
    return dataclasses.replace(method, epochs=(wanted - beside) / slope)


def with_new_head(encoder: Encoder, seed: int) -> Encoder:
    """The encoder with the parts that are no part of pretraining drawn from `seed`."""
    key = jax.random.key(seed)
    new: dict[str, Any] = {
        part: encoder.model.init_part(part, key)
        for part in encoder.model.parts
        if encoder.is_head((part, "kernel"))
    }
    return dataclasses.replace(encoder, params=encoder.params | new, new=encoder.new | new.keys())


def program_of(method: Training) -> Training:
    """The method with its rates set aside: equal where steps compile to one program."""
    names = {field.name for field in dataclasses.fields(method)}
    return dataclasses.replace(method, **{name: 1.0 for name in RATES if name in names})


def _padded(examples: Examples, encoder: Encoder, task: TaskSpec) -> dict[str, np.ndarray]:
    return encoder.encode(examples, task.max_length, multiple=task.max_length)
