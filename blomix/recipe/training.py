"""Supervised training, which every method shares: optimizer, schedule, step, order of batches."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from blomix.accumulation import in_parts
from blomix.errors import InputError
from blomix.recipe.checks import at_least, finite, one_of, positive, whole, within
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves
from blomix.recipe.optimization import adamw, scheduled, warmup_linear
from blomix.recipe.phase import Fit, Fitted, Phase
from blomix.recipe.probe import start_params
from blomix.recipe.program import copied

PyTree = Any


class TrainState(NamedTuple):
    """A lane of supervised training.

    Attributes:
      step: int32 scalar, steps done.
      params: the trained weights.
      optimizer: the optimizer's state.
      key: typed PRNG key; the dropout key of a step is this one folded with `step`.
      extra: what else the objective needs and no gradient is taken of (a fixed alpha, a mask), or
        what follows the weights (their moving average).
    """

    step: jax.Array
    params: PyTree
    optimizer: PyTree
    key: jax.Array
    extra: PyTree = None


def as_trained(params: PyTree, extra: PyTree, pretrained: PyTree) -> PyTree:
    return params


def as_it_is(value_and_gradient: Callable) -> Callable:
    return value_and_gradient


def accumulated(objective: Callable, parts: int) -> Callable:
    """`jax.value_and_grad(objective)`, in parts of the batch; for an objective of `Supervised`."""
    whole = jax.value_and_grad(objective)
    if parts == 1:
        return whole

    def value_and_gradient(params, extra, pretrained, batch, key):
        def of_part(params, batch, key):
            return whole(params, extra, pretrained, batch, key)

        losses, gradient = in_parts(of_part, parts)(params, batch, key)
        return jnp.mean(losses), gradient

    return value_and_gradient


def no_shares(extra: PyTree) -> dict[str, Any]:
    return {}


def unchanged(extra: PyTree, params: PyTree, step: jax.Array) -> PyTree:
    return extra


@dataclass(frozen=True)
class Supervised:
    """A step of gradient descent on one objective, callable as a phase's step.

    Steps of equal parts are equal and compile once, so the functions below should come from a
    module or from a cache.

    Attributes:
      objective: `(params, extra, pretrained, batch, key) -> scalar`.
      optimizer: any optax transformation.
      weights: `(params, extra, pretrained) ->` the weights that are evaluated and exported.
      shares: `extra ->` what `Fitted.shares` holds.
      gradient: what takes the objective's `value_and_grad` to a function of the same arguments that
        gives the value and the gradient to descend along.
      follow: `(extra, params, step) ->` the next `extra`, given the weights after step `step`.
      cost: gradient evaluations a step.
      accumulate: parts of a batch, see `in_parts`.
    """

    objective: Callable[[PyTree, PyTree, PyTree, PyTree, jax.Array], jax.Array]
    optimizer: optax.GradientTransformation
    weights: Callable[[PyTree, PyTree, PyTree], PyTree] = as_trained
    shares: Callable[[PyTree], dict[str, Any]] = no_shares
    gradient: Callable[[Callable], Callable] = as_it_is
    follow: Callable[[PyTree, PyTree, jax.Array], PyTree] = unchanged
    cost: float = 1.0
    accumulate: int = 1

    def init(self, params: PyTree, key: jax.Array, extra: PyTree = None) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params), key, extra)

    def __call__(self, state: TrainState, pretrained: PyTree, batch: PyTree):
        key = jax.random.fold_in(state.key, state.step)
        value_and_gradient = self.gradient(accumulated(self.objective, self.accumulate))
        loss, gradient = value_and_gradient(state.params, state.extra, pretrained, batch, key)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        extra = self.follow(state.extra, params, state.step)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
        return TrainState(state.step + 1, params, optimizer, state.key, extra), metrics


@dataclass(frozen=True)
class Training:
    """Plain finetuning, and the hyperparameters that all methods share.

    Attributes:
      epochs: passes over the training examples.
      batch_size: examples a step.
      learning_rate: peak of AdamW's learning rate, reached after `warmup`, linear to 0 from there.
      weight_decay: decoupled, on matrices alone (no biases, no LayerNorm).
      warmup: share of the steps in which the learning rate rises.
      clip: largest global norm of a gradient.
      head_init: "random": the model's own head, which loading draws from the seed where the
        checkpoint has none that fits; or "probe": the head starts as a logistic (or ridge)
        regression on the frozen encoder's features (LP-FT; Kumar et al., ICLR 2022); or "auto":
        "probe" for single texts, "random" for pairs.
      head_scale: what the weights of a probe of classes are multiplied by. Whole, it fits a
        hundred examples before the first step, and little is left for the encoder to learn; at 0.1
        it only says which way. Which is better differs by task (experiments/LOG.md).
      accumulate: parts that a batch is computed in, one after the other, for less memory.
      patience: stop after this many epochs without a better score on the held-out examples and keep
        the best epoch (of several finishes, that of their average); None trains to the end and
        keeps the last.
      finishes: times that the finetuning phase runs from the same start, each with an order of
        batches and dropout masks of its own; the weights they end at are averaged (Wortsman et al.,
        "Model soups", ICML 2022, section 2), so that the model costs no more than one.
    """

    name: ClassVar[str] = "plain"

    epochs: float = 3.0
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    head_init: str = "random"
    head_scale: float = 1.0
    accumulate: int = 1
    patience: int | None = None
    finishes: int = 1

    def __post_init__(self):
        whole(self, "batch_size", "accumulate", "finishes")
        positive(self, "epochs", "learning_rate", "clip", "head_scale")
        finite(self, "epochs")
        at_least(self, 0, "weight_decay")
        within(self, 0, 1, "warmup")
        one_of(self, "head_init", "auto", "random", "probe")
        if self.batch_size % self.accumulate:
            raise InputError(
                f"{type(self).__name__}.accumulate: expected a divisor of batch_size = "
                f"{self.batch_size}, found {self.accumulate}"
            )
        if self.patience is not None:
            whole(self, "patience")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The settings of a run or cell that was made before there were these: the default of each
        must mean what was done before."""
        return asdict(cls())

    @property
    def lanes(self) -> int:
        """Most lanes of a phase."""
        return self.finishes

    @property
    def streams(self) -> list[str]:
        """What each finish draws its batches and dropout masks from."""
        return ["finetune", *(f"finetune {k}" for k in range(1, self.finishes))]

    def fit(self, job: Job) -> Fit:
        """AdamW over all the training examples, from the pretrained weights."""
        return (yield from self.train(job, self.step(job), self.start(job)))

    def start(self, job: Job, rows: np.ndarray | None = None) -> PyTree:
        """The weights that training starts from, a probe fitted on all examples or on `rows`."""
        return start_params(job, self.head_init, self.head_scale, rows)

    def step(self, job: Job) -> Supervised:
        """The step of the finetuning phase."""
        return Supervised(
            plain_objective(job.loss),
            self.optimizer(job, self.total_steps(job)),
            accumulate=self.accumulate,
        )

    def total_steps(self, job: Job) -> int:
        return job.steps(self.epochs, self.batch_size)

    def optimizer(self, job: Job, steps: int) -> optax.GradientTransformation:
        """AdamW with warm-up, linear decay, clipping and no decay on biases and LayerNorm."""
        rate = warmup_linear(self.learning_rate, steps, self.warmup)
        return scheduled(self.direction(job), rate)

    def direction(self, job: Job) -> optax.GradientTransformation:
        """What `optimizer` descends along."""
        return adamw(decayed(job), self.weight_decay, self.clip)

    def train(self, job: Job, step: Any, params: PyTree, extra: PyTree = None):
        """Yields the finetuning phases; returns what the last (or the best) epoch gave.

        `step` is a `Supervised`, or whatever has its parts.
        """

        weigh = jax.jit(step.weights)

        def weights(ends: list[tuple[PyTree, PyTree]]) -> PyTree:
            found = [weigh(*end, job.encoder.params) for end in ends]
            return found[0] if len(found) == 1 else mean(found)

        def shares(ends: list[tuple[PyTree, PyTree]]) -> dict[str, Any]:
            each = [step.shares(extra) for _, extra in ends]
            # Not by jax.tree.map, which would sort a mapping: the search logs them in this order.
            return {path: np.mean([one[path] for one in each], axis=0) for path in each[0]}

        lanes = [partial(step.init, params, job.key(stream), extra) for stream in self.streams]
        total = self.total_steps(job)
        if self.patience is None:
            ends = yield self.phase(job, "finetune", step, lanes, 0, total)
            return Fitted(weights(ends), shares(ends))
        per_epoch = job.steps(1, self.batch_size)
        best, best_score, worse = None, -jnp.inf, 0
        for first in range(0, total, per_epoch):
            count = min(per_epoch, total - first)
            phase = self.phase(job, f"finetune-{first}", step, lanes, first, count)
            states = yield replace(phase, result=lambda state: state, consumes=first > 0)
            lanes = [lambda state=state: state for state in states]
            ends = [(state.params, state.extra) for state in states]
            now = weights(ends)
            score = job.score(now)
            if best is None or score > best_score:
                # A copy: the next epoch's first step takes the states' memory.
                best, best_score, worse = Fitted(copied(now), shares(ends)), score, 0
            else:
                worse += 1
            if worse == self.patience:
                break
        assert best is not None
        return best

    def phase(
        self,
        job: Job,
        name: str,
        step: Any,
        lanes: list[Callable[[], TrainState]],
        first: int,
        steps: int,
    ) -> Phase:
        """Steps `first` to `first + steps` over all the training examples, a lane a finish."""

        def rows(lane, t):
            return job.rows(self.streams[lane], first + t, self.batch_size)

        return Phase(
            name=name,
            step=step,
            lanes=lanes,
            shared=job.encoder.params,
            batch=lambda lane, t: job.take(rows(lane, t)),
            rows=lambda lane, t: job.digests(rows(lane, t)),
            steps=steps,
            gradients=step.cost,
            result=lambda state: (state.params, state.extra),
        )


def decayed(job: Job) -> Leaves:
    """The leaves that weight decay is usual on."""
    return Leaves.of(job.encoder.params, job.encoder.is_decayed)


@lru_cache(maxsize=64)
def loss_at(weights: Callable, loss: Callable) -> Callable:
    """The objective that is the loss at `weights(params, extra, pretrained)`; see `Supervised`."""

    def objective(params, extra, pretrained, batch, key):
        return loss(weights(params, extra, pretrained), batch, key)

    return objective


def plain_objective(loss: Callable) -> Callable:
    """The loss at the trained weights themselves."""
    return loss_at(as_trained, loss)


@jax.jit
def mean(trees: list) -> PyTree:
    """Leafwise mean. Factors of a low-rank alpha are averaged as they are, which keeps the rank."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *trees)
