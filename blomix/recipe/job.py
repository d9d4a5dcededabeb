"""What a method trains on: a model, encoded examples, a loss, a seed."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from blomix.data import Examples, batch_rows
from blomix.evaluation import metrics
from blomix.recipe.progress import Progress

if TYPE_CHECKING:
    from blomix.encoders import Encoder
    from blomix.encoders.model import Model

PyTree = Any
Arrays = dict[str, np.ndarray]

EVALUATION_BATCH = 64
_NARROWEST = 16  # tokens


@dataclass(frozen=True, eq=False)
class Job:
    """One training task, as every method sees it.

    Attributes:
      encoder: the pretrained encoder with its new head; `encoder.params` are what training starts
        from.
      train: the labelled examples, and `arrays` the same rows as token arrays and labels.
      held: examples drawn from the training data that no step trains on, for early stopping, and
        `held_arrays`; None without it.
      seed: draws batches, dropout masks, folds and new weights.
      max_length: longest row, in tokens.
    """

    encoder: "Encoder"
    train: Examples
    arrays: Arrays
    seed: int
    max_length: int
    held: Examples | None = None
    held_arrays: Arrays | None = None

    def __len__(self) -> int:
        return len(self.train)

    @cached_property
    def loss(self):
        """`loss(params, batch, key)`: mean cross-entropy of classes, or mean squared error."""
        return loss_of(self.encoder.model, self.encoder.regression)

    @cached_property
    def features(self) -> np.ndarray:
        """The input (n, hidden) of the pretrained encoder's last layer, for the training rows."""
        features = predict_logits(self.encoder, self.encoder.params, self.arrays, method="pooled")
        # In bfloat16 a sum over a thousand rows would stall.
        return features.astype(np.promote_types(features.dtype, np.float32))

    def steps(self, epochs: float, batch_size: int, rows: int | None = None) -> int:
        """Steps in `epochs` passes over `rows` examples (all by default), at least one."""
        per_epoch = -(-(rows or len(self)) // batch_size)
        return max(1, round(epochs * per_epoch))

    def rows(self, stream: str, t: int, batch_size: int, within: np.ndarray | None = None):
        """Rows of the batch of step `t`, a function of (seed, stream, t).

        `within` limits the draw to some rows: a fold's split.
        """
        count = len(self) if within is None else len(within)
        drawn = batch_rows(
            count, batch_size, seed=self.seed, fold=zlib.crc32(stream.encode()), step=t
        )
        return drawn if within is None else within[drawn]

    def take(self, rows: np.ndarray) -> Arrays:
        return {name: array[rows] for name, array in self.arrays.items()}

    def digests(self, rows: np.ndarray) -> list[str]:
        return [self.train.digests[row] for row in np.ravel(rows)]

    def key(self, stream: str) -> jax.Array:
        """A PRNG key that is a function of (seed, stream)."""
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(stream.encode()))

    def score(self, params: PyTree) -> float:
        """The task's metric on the held examples, negated where lower is better."""
        if self.held is None or self.held_arrays is None:
            raise ValueError("this job holds no examples out")
        logits = predict_logits(self.encoder, params, self.held_arrays)
        return metrics.height(self.train.metric, self.held.targets, logits)


@lru_cache(maxsize=32)
def loss_of(model: "Model", regression: bool):
    """The loss of a model, one function object each so that equal steps compile once."""

    def loss(params, batch, key):
        return task_loss(model.logits(params, batch, key), batch["labels"], regression)

    return loss


def task_loss(logits: jax.Array, labels: jax.Array, regression: bool) -> jax.Array:
    """Mean cross-entropy of integer labels, or mean squared error."""
    if regression:
        return jnp.mean((logits[:, 0] - labels) ** 2)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@lru_cache(maxsize=32)
def _forward(model: "Model", method: str):
    return jax.jit(getattr(model, method))


def predict_logits(
    encoder: "Encoder",
    params: PyTree,
    arrays: Arrays,
    method: str = "logits",
    progress: Progress | None = None,
) -> np.ndarray:
    """Logits (n, num_labels) of token arrays, or `"pooled"` features (n, hidden)."""
    inputs = {name: array for name, array in arrays.items() if name != "labels"}
    forward = _forward(encoder.model, method)
    batches = list(batches_by_length(inputs["attention_mask"]))
    outputs = []
    with (progress or Progress(quiet=True)).phase("predict", 0, len(batches)) as advance:
        for rows, width in batches:
            batch = {name: array[rows, :width] for name, array in inputs.items()}
            outputs.append(np.asarray(forward(params, batch)))
            advance()
    order = np.concatenate([rows for rows, _ in batches])
    _, first = np.unique(order, return_index=True)  # the last batch is filled up
    return np.concatenate(outputs)[first]


def batches_by_length(mask: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of like length, EVALUATION_BATCH at a time, and the tokens that the longest needs.

    These are 16, 32, 64 and so on, so that few shapes are compiled, and a file's one long text does
    not make the others as dear. The longest come first, so that what does not fit in memory fails
    at once; the last batch is filled up with its shortest row.

    Args:
      mask: (n, tokens), not 0 where there is a token.
    """
    count, tokens = mask.shape
    ends = tokens - (mask[:, ::-1] != 0).argmax(1)
    order = np.argsort(-ends, kind="stable")
    for start in range(0, count, EVALUATION_BATCH):
        rows = order[np.minimum(np.arange(start, start + EVALUATION_BATCH), count - 1)]
        width = _NARROWEST
        while width < ends[rows[0]]:
            width *= 2
        yield rows, min(width, tokens)
