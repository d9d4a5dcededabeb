"""Joint training of alpha and the weights: the recipe without its two levels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from blomix.mixup import Granularity, Mixup
from blomix.recipe.checks import at_least, within
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves
from blomix.recipe.optimization import adam, scheduled, warmup_cosine
from blomix.recipe.phase import Fit
from blomix.recipe.recipe import mixed_shares
from blomix.recipe.training import Training, TrainState, accumulated


@dataclass(frozen=True)
class Joint(Training):
    """Learns alpha and the task weights by one loss on the same data.

        min over W, alpha of L(alpha * W + (1 - alpha) * W0)

    The ablation "without bi-level optimisation" of Somayajula et al., NAACL 2024
    (arXiv:2403.12918). Adam on alpha, clipped to [0, 1] after each update; no folds.

    Cost: 1 gradient evaluation a step.

    Attributes (besides those of `Training`):
      outer_learning_rate: peak of Adam's rate on alpha; cosine to 0 after `warmup`.
      granularity: what alpha is, see `Mixup`.
      alpha_init, alpha_noise: mean and standard deviation of alpha's entries at the start.
    """

    name: ClassVar[str] = "joint"

    outer_learning_rate: float = 2e-3
    granularity: Granularity = "rank1"
    alpha_init: float = 1.0
    alpha_noise: float = 0.005

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 0, "outer_learning_rate", "alpha_noise")
        within(self, 0, 1, "alpha_init")

    def fit(self, job: Job) -> Fit:
        mixup = Mixup(
            granularity=self.granularity,
            where=Leaves.of(job.encoder.params, job.encoder.is_mixed),
            init=(self.alpha_init, self.alpha_noise),
        )
        steps = self.total_steps(job)
        rate = warmup_cosine(self.outer_learning_rate, steps, self.warmup)
        optimizers = (self.optimizer(job, steps), scheduled(adam(), rate))
        step = JointStep(job.loss, mixup, *optimizers, accumulate=self.accumulate)
        alpha = mixup.init(job.key("alpha"), job.encoder.params)
        return (yield from self.train(job, step, self.start(job), alpha))


@dataclass(frozen=True)
class JointStep:
    """One update of the task weights (`params`) and of alpha (`extra`) by the same loss."""

    loss: Callable
    mixup: Mixup
    inner: optax.GradientTransformation
    outer: optax.GradientTransformation
    cost: float = 1.0
    accumulate: int = 1

    def init(self, params: Any, key: jax.Array, extra: Any = None) -> TrainState:
        optimizers = (self.inner.init(params), self.outer.init(extra))
        return TrainState(jnp.zeros((), jnp.int32), params, optimizers, key, extra)

    def __call__(self, state: TrainState, pretrained: Any, batch: Any):
        key = jax.random.fold_in(state.key, state.step)

        def objective(trained, extra, pretrained, batch, key):
            task, alpha = trained
            return self.loss(self.mixup.mix(alpha, task, pretrained), batch, key)

        loss, (to_task, to_alpha) = accumulated(objective, self.accumulate)(
            (state.params, state.extra), None, pretrained, batch, key
        )
        inner, outer = state.optimizer
        updates, inner = self.inner.update(to_task, inner, state.params)
        params = optax.apply_updates(state.params, updates)
        updates, outer = self.outer.update(to_alpha, outer, state.extra)
        alpha = self.mixup.project(optax.apply_updates(state.extra, updates))
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(to_task)}
        return TrainState(state.step + 1, params, (inner, outer), state.key, alpha), metrics

    def weights(self, params: Any, extra: Any, pretrained: Any) -> Any:
        return self.mixup.mix(extra, params, pretrained)

    def shares(self, extra: Any) -> dict[str, Any]:
        return mixed_shares(self.mixup)(extra)
