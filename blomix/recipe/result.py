"""What `blomix.finetune` returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix.data import Examples, examples_of
from blomix.errors import InputError
from blomix.evaluation import metrics
from blomix.recipe.job import predict_logits
from blomix.recipe.progress import Progress

if TYPE_CHECKING:
    from blomix.encoders import Encoder

Texts = Sequence[str] | Sequence[tuple[str, str]] | Examples


@dataclass(frozen=True, eq=False)
class Result:
    """A finetuned model and how it did.

    Attributes:
      model: the encoder the weights belong to.
      params: the final dense weights.
      summary: what result.json holds (metric, score, majority_score, metrics, method, seed, ...).
    """

    model: "Encoder"
    params: Any = field(repr=False)
    summary: dict[str, Any]

    @classmethod
    def load(cls, run_dir: str | Path) -> "Result":
        """A finished run, from its directory.

        Raises:
          InputError: the run is not finished, or its export is damaged.
        """
        from blomix.encoders import Encoder
        from blomix.runs import finished, manifest

        run_dir = Path(run_dir)
        summary = finished(run_dir)
        for name, kind in (("metric", str), ("max_length", int), ("labels", list), ("model", dict)):
            if not isinstance(summary.get(name), kind):
                raise InputError(
                    f"{run_dir / 'result.json'} is damaged: expected {name!r} of type "
                    f"{kind.__name__}, found {summary.get(name)!r}"
                )
        columns = summary.get("columns") or {}
        if not isinstance(columns, dict) or not all(
            isinstance(name, str | None) for name in columns.values()
        ):
            raise InputError(
                f"{run_dir / 'result.json'} is damaged: expected 'columns' to be names, found "
                f"{columns!r}"
            )
        manifest.verify_model(run_dir / "export")
        # By the run's own names: LABEL_0 in a config.json may be a class or a placeholder.
        model = Encoder.from_pretrained(
            run_dir / "export",
            label_names=summary["labels"] or None,
            dtype=summary["model"].get("dtype", "float32"),
        )
        return cls(model, model.params, summary)

    @property
    def score(self) -> float:
        return self.summary["score"]

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes, None for a regression."""
        return self.model.label_names

    def logits(self, texts: Texts, progress: Progress | None = None) -> np.ndarray:
        """Logits (n, num_labels) of texts, or of pairs of texts.

        Raises:
          InputError: pairs for a model of single texts, or the reverse.
        """
        examples = texts if isinstance(texts, Examples) else examples_of((texts, None))
        if "pairs" in self.summary:
            examples.check_paired(self.summary["pairs"], "those the model was trained on")
        arrays = self.model.encode(examples, self.summary["max_length"])
        return predict_logits(self.model, self.params, arrays, progress=progress)

    def decide(self, logits: np.ndarray) -> list:
        """The label name of each row of logits, or its value for a regression."""
        if self.model.regression or self.label_names is None:
            return logits[:, 0].tolist()
        return [self.label_names[row] for row in logits.argmax(1)]

    def predict(self, texts: Texts) -> list:
        """The label name of each text, or its value for a regression."""
        return self.decide(self.logits(texts))

    def evaluate(
        self, examples: Examples | tuple[Sequence, Sequence], progress: Progress | None = None
    ) -> dict[str, float]:
        """The metrics of the run's task on labelled examples, or on `(texts, labels)`.

        Raises:
          InputError: the examples have no labels, or others than the model.
        """
        examples = examples_of(examples, regression=self.model.regression or None)
        examples = examples.like(self.label_names, self.model.regression)
        logits = self.logits(examples, progress)
        return metrics.evaluate(self.summary["metric"], examples.targets, logits)

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes a Hugging Face directory with a model card and a manifest of its files."""
        from blomix.report.card import model_card
        from blomix.runs import manifest

        card, max_length = model_card(self.summary), self.summary["max_length"]
        self.model.save_pretrained(directory, self.params, card, max_length)
        manifest.write(directory)
