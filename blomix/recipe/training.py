"""Supervised training, which every method shares: optimizer, schedule, step, order of batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from blomix.recipe.checks import at_least, one_of, positive, within
from blomix.recipe.job import Job
from blomix.recipe.phase import Fit, Fitted, Phase
from blomix.recipe.probe import start_params

PyTree = Any

# Under Adam's square root: without it a zero gradient, such as an embedding row of a token that no
# text has, gives an infinite derivative. It moves no update by a representable amount.
EPS_ROOT = 1e-16


class TrainState(NamedTuple):
    """A lane of supervised training.

    Attributes:
      step: int32 scalar, steps done.
      params: the trained weights.
      optimizer: the optimizer's state.
      key: typed PRNG key; the dropout key of a step is this one folded with `step`.
      extra: what the objective needs beside them and training leaves alone (a fixed alpha).
    """

    step: jax.Array
    params: PyTree
    optimizer: PyTree
    key: jax.Array
    extra: PyTree = None


@dataclass(frozen=True)
class Supervised:
    """A step of gradient descent on one objective, callable as a phase's step.

    Attributes:
      objective: `(params, extra, pretrained, batch, key) -> scalar`.
      optimizer: any optax transformation.
      weights: `(params, extra, pretrained) ->` the weights that are evaluated and exported.
    """

    objective: Callable[[PyTree, PyTree, PyTree, PyTree, jax.Array], jax.Array]
    optimizer: optax.GradientTransformation
    weights: Callable[[PyTree, PyTree, PyTree], PyTree] = lambda params, extra, pretrained: params

    def init(self, params: PyTree, key: jax.Array, extra: PyTree = None) -> TrainState:
        return TrainState(jnp.zeros((), jnp.int32), params, self.optimizer.init(params), key, extra)

    def __call__(self, state: TrainState, pretrained: PyTree, batch: PyTree):
        key = jax.random.fold_in(state.key, state.step)
        loss, gradient = jax.value_and_grad(self.objective)(
            state.params, state.extra, pretrained, batch, key
        )
        updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient)}
        return state._replace(step=state.step + 1, params=params, optimizer=optimizer), metrics


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
      head_init: "random" from the seed, or "probe": the head starts as a logistic (or ridge)
        regression on the frozen encoder's features (LP-FT; Kumar et al., ICLR 2022).
      patience: stop after this many epochs without a better score on the held-out examples and keep
        the best epoch; None trains to the end and keeps the last.
    """

    name: ClassVar[str] = "plain"

    epochs: float = 3.0
    batch_size: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    head_init: str = "random"
    patience: int | None = None

    def __post_init__(self):
        positive(self, "epochs", "batch_size", "learning_rate", "clip")
        at_least(self, 0, "weight_decay")
        within(self, 0, 1, "warmup")
        one_of(self, "head_init", "random", "probe")
        if self.patience is not None:
            positive(self, "patience")

    def fit(self, job: Job) -> Fit:
        """AdamW over all the training examples, from the pretrained weights."""
        step = Supervised(plain_objective(job), self.optimizer(job, self.total_steps(job)))
        return Fitted((yield from self.train(job, step, start_params(job, self.head_init))))

    def total_steps(self, job: Job) -> int:
        return job.steps(self.epochs, self.batch_size)

    def optimizer(self, job: Job, steps: int) -> optax.GradientTransformation:
        """AdamW with warm-up, linear decay, clipping and no decay on biases and LayerNorm."""
        schedule = warmup_linear(self.learning_rate, steps, self.warmup)
        return adamw(job, schedule, self.weight_decay, self.clip)

    def train(self, job: Job, step: Supervised, params: PyTree, extra: PyTree = None):
        """Yields the finetuning phases; returns the dense weights of the last (or best) epoch."""
        state = step.init(params, job.key("finetune"), extra)
        total = self.total_steps(job)
        pretrained = job.encoder.params
        weights = jax.jit(step.weights)
        if self.patience is None:
            (params,) = yield self.phase(job, "finetune", step, state, 0, total)
            return weights(params, extra, pretrained)
        per_epoch = job.steps(1, self.batch_size)
        best, best_score, worse = params, -jnp.inf, 0
        for first in range(0, total, per_epoch):
            count = min(per_epoch, total - first)
            phase = self.phase(job, f"finetune-{first}", step, state, first, count)
            (state,) = yield replace(phase, result=lambda state: state)
            score = job.score(weights(state.params, extra, pretrained))
            best, best_score, worse = (
                (state.params, score, 0) if score > best_score else (best, best_score, worse + 1)
            )
            if worse == self.patience:
                break
        return weights(best, extra, pretrained)

    def phase(self, job: Job, name: str, step, state, first: int, steps: int) -> Phase:
        """Steps `first` to `first + steps` over all the training examples."""

        def rows(_, t):
            return job.rows("finetune", first + t, self.batch_size)

        return Phase(
            name=name,
            step=step,
            lanes=[state],
            shared=job.encoder.params,
            batch=lambda lane, t: job.take(rows(lane, t)),
            rows=lambda lane, t: job.digests(rows(lane, t)),
            steps=steps,
            result=lambda state: state.params,
        )


def plain_objective(job: Job):
    """The job's loss at the trained weights themselves."""
    return lambda params, extra, pretrained, batch, key: job.loss(params, batch, key)


def warmup_linear(peak: float, steps: int, warmup: float) -> optax.Schedule:
    """Linear from 0 to `peak` in the first `warmup` share of the steps, then linear to 0."""
    rising = round(warmup * steps)
    return optax.join_schedules(
        [
            optax.linear_schedule(peak / max(rising, 1), peak, max(rising - 1, 1)),
            optax.linear_schedule(peak, 0.0, max(steps - rising, 1)),
        ],
        [rising],
    )


def adamw(job: Job, learning_rate: optax.ScalarOrSchedule, weight_decay: float, clip: float):
    """`clip` by the global norm, then AdamW that decays what `Encoder.is_decayed` names."""

    def decayed(params):
        return jax.tree_util.tree_map_with_path(job.encoder.is_decayed, params)

    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(learning_rate, eps_root=EPS_ROOT, weight_decay=weight_decay, mask=decayed),
    )
