"""A finished run as the report sees it: what its directory holds, read once and checked."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from blomix.errors import InputError
from blomix.report import shapes
from blomix.report.shapes import misfit
from blomix.runs import files
from blomix.runs.files import finished
from blomix.small_files import read_text

SEARCH = "search"
FINETUNE = "finetune"  # alone, or with its first step: finetune-19


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run.

    Attributes:
      path: its directory.
      summary: result.json.
      config_text: config.toml as it stands, which repeats the run.
      environment: versions, devices, commit.
      splits: rows, label balance, duplicates and leakage of every split and fold.
      matrices: a mapping a mixable matrix: path, layer, matrix, weights, change, perhaps share.
      searched: the matrices' paths in the order of a line of `history`.
      history: mean shares by lane and step of the search.
      metrics, audit: the log lines, in order.
      predictions: a mapping a scored example: text, pair, label, predicted, logits.
    """

    path: Path
    summary: dict[str, Any]
    config_text: str
    environment: dict[str, Any]
    splits: dict[str, Any]
    matrices: list[dict[str, Any]] = field(repr=False)
    searched: list[str] = field(repr=False)
    history: list[dict[str, Any]] = field(repr=False)
    metrics: list[dict[str, Any]] = field(repr=False)
    audit: list[dict[str, Any]] = field(repr=False)
    predictions: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def load(cls, path: str | Path) -> "RunRecord":
        """Reads a run directory.

        Raises:
          InputError: the run is not finished, or a file of it is missing or damaged.
        """
        path = Path(path)
        summary = finished(path)
        _expect(path / "result.json", summary, shapes.RESULT)
        alpha = _read(path / "alpha.json", json.loads, shapes.ALPHA)
        predictions = _read(path / "validation.jsonl", files.values_of, shapes.PREDICTIONS)
        _check_predictions(path / "validation.jsonl", summary, predictions)
        if any(len(line["shares"]) != len(alpha["searched"]) for line in alpha["history"]):
            raise InputError(f"{path / 'alpha.json'}: expected a share of every matrix searched")
        return cls(
            path=path,
            summary=summary,
            config_text=_read(path / "config.toml", _toml),
            environment=_read(path / "env.json", json.loads, shapes.ENVIRONMENT),
            splits=read_splits(path),
            matrices=alpha["matrices"],
            searched=alpha["searched"],
            history=alpha["history"],
            metrics=_read(path / "metrics.jsonl", files.values_of, shapes.METRICS),
            audit=_read(path / "audit.jsonl", files.values_of, shapes.AUDIT),
            predictions=predictions,
        )

    @property
    def method(self) -> str:
        return self.summary["method"]

    def differences(self, other: "RunRecord") -> dict[str, str]:
        """The settings that decide a score, but for the seed, where `other` has another value."""
        ours, theirs = self.settings, other.settings
        return {
            name: f"{name} {theirs.get(name)!r} in place of {ours.get(name)!r}"
            for name in ours | theirs
            if ours.get(name) != theirs.get(name)
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What decides a score, but for the seed and the data; one that the run's version of blomix
        had not stands at its default."""
        told = self._with_defaults(self.summary)
        return (
            told["recipe"]
            | {"max_length": told.get("max_length")}
            | {f"model {name}": value for name, value in told["model"].items()}
        )

    @property
    def resolved(self) -> dict[str, Any]:
        """The table of that name in config.toml, with the same defaults."""
        return self._with_defaults(self.config["resolved"])

    def _with_defaults(self, resolved: dict[str, Any]) -> dict[str, Any]:
        from blomix.baselines import METHODS
        from blomix.encoders.options import Options

        known = METHODS.get(self.method)
        recipe = {} if known is None else files.plain(known.defaults())
        recipe = {name: value for name, value in recipe.items() if value is not None}
        model = asdict(Options()) | resolved.get("model", {})
        return resolved | {"recipe": recipe | resolved.get("recipe", {}), "model": model}

    @property
    def metric(self) -> str:
        return self.summary["metric"]

    @property
    def is_regression(self) -> bool:
        return not self.summary["labels"]

    @property
    def has_shares(self) -> bool:
        return any("share" in matrix for matrix in self.matrices)

    @cached_property
    def config(self) -> dict[str, Any]:
        return tomllib.loads(self.config_text)

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) class indices, or targets of a regression, of the scored examples."""
        labels = [prediction["label"] for prediction in self.predictions]
        if self.is_regression:
            return np.array(labels, float)
        index = {name: i for i, name in enumerate(self.summary["labels"])}
        return np.array([index[label] for label in labels])

    @cached_property
    def logits(self) -> np.ndarray:
        """(n, num_labels)."""
        return np.array([prediction["logits"] for prediction in self.predictions], float)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(n,) predicted class indices, or values."""
        return self.logits[:, 0] if self.is_regression else self.logits.argmax(1)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(n, num_labels), the softmax of the logits."""
        from scipy.special import softmax

        return softmax(self.logits, axis=1)


def read_splits(path: Path) -> dict[str, Any]:
    """splits.json of a run directory; raises InputError where it is missing or damaged."""
    splits = _read(path / "splits.json", json.loads, shapes.SPLITS)
    balance = splits["balance"]
    if ("held" in splits) != ("held" in balance) or (
        len(splits.get("folds", ())) != len(balance.get("folds", ()))
    ):
        raise InputError(f"{path / 'splits.json'}: expected the balance of every fold")
    return splits


def _toml(text: str) -> str:
    if not isinstance(tomllib.loads(text).get("resolved"), dict):
        raise ValueError("expected a table [resolved]; it was edited")
    return text


def _read(path: Path, parse: Callable[[str], Any], shape: Any = object) -> Any:
    try:
        value = parse(read_text(path))
    except FileNotFoundError:
        raise InputError(f"{path}: missing, though the run is finished; was it deleted?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    _expect(path, value, shape)
    return value


def _expect(path: Path, value: Any, shape: Any) -> None:
    if (found := misfit(value, shape)) is not None:
        raise InputError(
            f"{path}: expected {found}, found something else; the file was edited, or written by "
            "another version of blomix"
        )


def _check_predictions(path: Path, summary: dict[str, Any], predictions: list[Any]) -> None:
    """Raise InputError unless every label and every row of logits is one of this run's."""
    labels = summary["labels"]
    for row, prediction in enumerate(predictions, 1):
        known = (
            prediction["label"] in labels if labels else not isinstance(prediction["label"], str)
        )
        if not known or len(prediction["logits"]) != max(1, len(labels)):
            raise InputError(
                f"{path}, line {row}: expected one of the labels of result.json and a logit for "
                "each; one of the two files was edited"
            )
    if not predictions:
        raise InputError(f"{path}: expected the scored examples, found none")
