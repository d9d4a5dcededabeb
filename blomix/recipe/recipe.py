"""The recipe: search alpha over folds, average, finetune with alpha fixed."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from blomix.bilevel import BilevelProblem, BilevelState
from blomix.data import folds
from blomix.mixup import Mixup
from blomix.recipe.checks import at_least, one_of, positive, within
from blomix.recipe.job import Job
from blomix.recipe.phase import Fit, Fitted, Phase
from blomix.recipe.probe import start_params
from blomix.recipe.training import EPS_ROOT, Supervised, Training, adamw, warmup_linear

PyTree = Any


@dataclass(frozen=True)
class SearchStep:
    """One outer step as a phase's step; it also logs the mean share of every mixed leaf."""

    problem: BilevelProblem

    def __call__(self, state: BilevelState, pretrained: PyTree, batch: PyTree):
        state, metrics = self.problem.step(state, pretrained, batch["inner"], batch["outer"])
        shares = jax.tree.leaves(self.problem.mixup.alpha_of(state.alpha))
        return state, metrics | {"shares": jnp.stack([share.mean() for share in shares])}


@dataclass(frozen=True)
class Recipe(Training):
    """Learned weight mixup by bi-level optimisation (Somayajula et al., NAACL 2024).

    1. Search. For each fold, alpha is learned on one split of the training examples through the
       inner steps that train the task weights on the other. All folds start from the same weights.
    2. Average alpha, and with `average="all"` the task weights, over the folds.
    3. Finetune the task weights on all the examples with alpha fixed, at `alpha * task +
       (1 - alpha) * pretrained`.

    Attributes (besides those of `Training`, which govern the finetuning phase):
      folds: independent searches.
      partition: "kfold", each example in one outer split (1/folds of the data), or "independent",
        a fresh draw of `holdout` a fold.
      holdout: share of the outer split where the folds do not say it (one fold, or independent).
      search_epochs: passes over the inner split.
      search_learning_rate, search_clip: peak of the inner AdamW's rate, and its clipping.
      outer_learning_rate: peak of AdamW on alpha; cosine to 0 after `warmup`.
      unroll: inner steps a hypergradient goes through.
      hypergradient, lookahead: see `BilevelProblem`.
      granularity, rank, formula, constraint: see `Mixup`.
      alpha_init, alpha_noise: mean and standard deviation of alpha's entries at the start.
      alpha_l1, alpha_l2: pull of alpha's mean (absolute, squared) value toward 0, the pretrained
        side, added to the outer loss.
      average: "all", or "alpha" to restart the task weights at the pretrained ones.
    """

    name: ClassVar[str] = "blomix"

    folds: int = 5
    partition: str = "kfold"
    holdout: float = 0.2
    search_epochs: float = 3.0
    search_learning_rate: float = 1e-4
    search_clip: float = 5.0
    outer_learning_rate: float = 2e-3
    unroll: int = 1
    hypergradient: str = "exact"
    lookahead: bool = False
    granularity: str = "rank1"
    rank: int = 1
    formula: str = "convex"
    constraint: str = "clip"
    alpha_init: float = 1.0
    alpha_noise: float = 0.005
    alpha_l1: float = 0.0
    alpha_l2: float = 0.0
    average: str = "all"

    def __post_init__(self):
        super().__post_init__()
        positive(self, "folds", "search_epochs", "search_learning_rate", "search_clip")
        positive(self, "unroll", "rank")
        at_least(self, 0, "outer_learning_rate", "alpha_noise", "alpha_l1", "alpha_l2")
        within(self, 0, 1, "holdout", "alpha_init")
        one_of(self, "partition", "kfold", "independent")
        one_of(self, "average", "all", "alpha")

    @classmethod
    def paper(cls, **changes) -> "Recipe":
        """The paper's method as it is written: convex rank-1 mixing, a stratified partition into
        five folds, the exact hypergradient through one inner step, all weights averaged."""
        return cls(**changes)

    @classmethod
    def released(cls, **changes) -> "Recipe":
        """What the released code does, as far as it is sane.

        Kept: the product of complements, factors clipped to [0, 1] and drawn from N(1, 0.005), five
        independent 80/20 draws, a DARTS finite difference with dropout masks that differ between
        its two passes, the average of everything.
        Departures: draws are stratified; each inner batch is stepped once, not twice; the
        finite difference has no per-tensor preconditioner and its perturbation is undone (the
        leak is a study of its own, `experiments/hypergradient_error`); inner clipping is at 5 and
        the final one at 1, as there; learning rates are arguments, for they belong to the encoder.
        """
        return cls(
            **{
                "partition": "independent",
                "formula": "released",
                "hypergradient": "finite_difference",
            }
            | changes
        )

    def fit(self, job: Job) -> Fit:
        start = start_params(job, self.head_init)
        mixup = self.mixup(job)
        found = yield self.search(job, mixup, start)
        alpha = _mean([alpha for _, alpha in found])
        task = _mean([task for task, _ in found]) if self.average == "all" else start
        step = mixed_step(job, mixup, self.optimizer(job, self.total_steps(job)))
        params = yield from self.train(job, step, task, extra=alpha)
        return Fitted(params, shares=by_path(jax.jit(mixup.alpha_of)(alpha)))

    def mixup(self, job: Job) -> Mixup:
        return Mixup(
            granularity=self.granularity,
            rank=self.rank,
            formula=self.formula,
            constraint=self.constraint,
            where=job.encoder.is_mixed,
            init=(self.alpha_init, self.alpha_noise),
        )

    def problem(self, job: Job, mixup: Mixup, inner_steps: int) -> BilevelProblem:
        """The bi-level problem of one fold."""
        schedule = warmup_linear(self.search_learning_rate, inner_steps, self.warmup)
        return BilevelProblem(
            job.loss,
            mixup,
            inner=adamw(job, schedule, self.weight_decay, self.search_clip),
            outer=self.outer(mixup, inner_steps // self.unroll),
            unroll=self.unroll,
            hypergradient=self.hypergradient,
            lookahead=self.lookahead,
        )

    def outer(self, mixup: Mixup, steps: int) -> optax.GradientTransformation:
        """AdamW on alpha without decay, cosine to 0, after the pull toward the pretrained side."""
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, self.outer_learning_rate, round(self.warmup * steps), max(steps, 1)
        )
        adam = optax.adamw(schedule, eps_root=EPS_ROOT, weight_decay=0.0)
        if not (self.alpha_l1 or self.alpha_l2):
            return adam
        return optax.chain(pull(mixup, self.alpha_l1, self.alpha_l2), adam)

    def splits(self, job: Job) -> list[tuple[np.ndarray, np.ndarray]]:
        """(inner rows, outer rows) of each fold, a function of the job's seed."""
        scheme = "partition" if self.partition == "kfold" and self.folds > 1 else "independent"
        return folds(job.train, self.folds, job.seed, scheme=scheme, fraction=self.holdout)

    def search(self, job: Job, mixup: Mixup, start: PyTree) -> Phase:
        """One lane a fold; a lane's result is its task weights and alpha."""
        splits = self.splits(job)
        inner_steps = job.steps(
            self.search_epochs, self.batch_size, min(len(inner) for inner, _ in splits)
        )
        inner_steps += -inner_steps % self.unroll
        problem = self.problem(job, mixup, inner_steps)

        def rows(lane, t):
            inner, outer = splits[lane]
            steps = range(t * self.unroll, (t + 1) * self.unroll)
            return (
                np.stack([job.rows(f"inner {lane}", k, self.batch_size, inner) for k in steps]),
                job.rows(f"outer {lane}", t, self.batch_size, outer),
            )

        def batch(lane, t):
            inner, outer = rows(lane, t)
            return {"inner": job.take(inner), "outer": job.take(outer)}

        return Phase(
            name="search",
            step=SearchStep(problem),
            lanes=[
                problem.init(job.key(f"search {lane}"), job.encoder.params, task=start)
                for lane in range(self.folds)
            ],
            shared=job.encoder.params,
            batch=batch,
            rows=lambda lane, t: [d for part in rows(lane, t) for d in job.digests(part)],
            steps=inner_steps // self.unroll,
            gradients=problem.gradients,
            result=lambda state: (state.task, state.alpha),
        )


def mixed_step(job: Job, mixup: Mixup, optimizer: optax.GradientTransformation) -> Supervised:
    """Training of the task weights at the mixed ones, with a fixed alpha in `extra`."""

    def objective(task, alpha, pretrained, batch, key):
        return job.loss(mixup.mix(alpha, task, pretrained), batch, key)

    def weights(task, alpha, pretrained):
        return mixup.mix(alpha, task, pretrained)

    return Supervised(objective, optimizer, weights)


def pull(mixup: Mixup, l1: float, l2: float) -> optax.GradientTransformation:
    """Adds the gradient of `l1 * mean|alpha| + l2 * mean alpha^2`, summed over the mixed leaves."""

    def penalty(alpha):
        shares = jax.tree.leaves(mixup.alpha_of(alpha))
        return sum(l1 * jnp.abs(share).mean() + l2 * (share**2).mean() for share in shares)

    return optax.stateless(
        lambda updates, alpha: jax.tree.map(jnp.add, updates, jax.grad(penalty)(alpha))
    )


def by_path(tree: PyTree) -> dict[str, np.ndarray]:
    """A pytree's leaves by their joined path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in leaves
    }


@jax.jit
def _mean(trees: list) -> PyTree:
    """Leafwise mean. Factors of a low-rank alpha are averaged as they are, which keeps the rank."""
    return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *trees)
