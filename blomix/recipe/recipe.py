"""The recipe: search alpha over folds, average, finetune with alpha fixed."""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from blomix import _trees
from blomix.bilevel import BilevelProblem, BilevelState
from blomix.errors import InputError
from blomix.hypergradient import ESTIMATORS, Exact, FiniteDifference
from blomix.mixup import Constraint, Formula, Granularity, Mixup
from blomix.recipe.checks import at_least, one_of, whole, within
from blomix.recipe.folded import Folded
from blomix.recipe.job import Job
from blomix.recipe.leaves import Leaves
from blomix.recipe.optimization import adam, scheduled, warmup_cosine
from blomix.recipe.phase import Fit, Phase
from blomix.recipe.training import Supervised, loss_at, mean

PyTree = Any

# The estimators by name, and the finite difference as the released code has it: another dropout
# mask for each side, and besides the displacement of the task weights that it leaves behind.
HYPERGRADIENTS = ESTIMATORS | {
    "finite_difference_fresh": FiniteDifference(fresh_keys=True),
    "finite_difference_leaking": FiniteDifference(fresh_keys=True, restore=False),
}


@dataclass(frozen=True)
class SearchStep:
    """One outer step as a phase's step; it also logs the mean share of every mixed matrix, those of
    stacked layers one after the other."""

    problem: BilevelProblem

    def __call__(self, state: BilevelState, pretrained: PyTree, batch: PyTree):
        state, metrics = self.problem.step(state, pretrained, batch["inner"], batch["outer"])
        shares = shares_by_leaf(self.problem.mixup, state.alpha).values()
        means = [share.mean((-2, -1)).reshape(-1) for share in shares]
        return state, metrics | {"shares": jnp.concatenate(means)}


@dataclass(frozen=True)
class Recipe(Folded):
    """Learned weight mixup by bi-level optimisation (Somayajula et al., NAACL 2024).

    1. Search. For each fold, alpha is learned on one split of the training examples through the
       inner steps that train the task weights on the other. All folds start from the same encoder,
       and from a head that has not seen their outer split.
    2. Average alpha, and with `average="all"` the task weights, over the folds.
    3. Finetune the task weights on all the examples with alpha fixed, at `alpha * task +
       (1 - alpha) * pretrained`.

    Attributes (besides those of `Folded`, which govern the folds and the finetuning phase):
      outer_learning_rate: peak of Adam on alpha; cosine to 0 after `warmup`.
      unroll: inner steps a hypergradient goes through.
      hypergradient: a name in `HYPERGRADIENTS`; lookahead: see `BilevelProblem`.
      granularity, rank, formula, constraint: see `Mixup`.
      alpha_init, alpha_noise: mean and standard deviation of alpha's entries at the start; of low
        rank those of its factors, whose product is the share: 0.5 starts a rank of 1 at 0.25.
      alpha_l1, alpha_l2: pull of alpha's mean (absolute, squared) value toward 0, the pretrained
        side, added to the outer loss.
      average: "all", or "alpha" to restart the task weights at the pretrained ones.
    """

    name: ClassVar[str] = "blomix"

    outer_learning_rate: float = 2e-3
    unroll: int = 1
    hypergradient: str = "exact"
    lookahead: bool = False
    granularity: Granularity = "rank1"
    rank: int = 1
    formula: Formula = "convex"
    constraint: Constraint = "clip"
    alpha_init: float = 1.0
    alpha_noise: float = 0.005
    alpha_l1: float = 0.0
    alpha_l2: float = 0.0
    average: str = "all"

    def __post_init__(self):
        super().__post_init__()
        whole(self, "unroll", "rank")
        at_least(self, 0, "outer_learning_rate", "alpha_noise", "alpha_l1", "alpha_l2")
        within(self, 0, 1, "alpha_init")
        one_of(self, "average", "all", "alpha")
        one_of(self, "granularity", *get_args(Granularity))
        one_of(self, "formula", *get_args(Formula))
        one_of(self, "constraint", *get_args(Constraint))
        one_of(self, "hypergradient", *HYPERGRADIENTS)
        if self.accumulate > 1 and (self.hypergradient != "exact" or self.lookahead):
            raise InputError(
                "Recipe.accumulate: expected hypergradient 'exact' and no lookahead beside it, "
                f"found {self.hypergradient!r}, lookahead {self.lookahead}"
            )

    @classmethod
    def paper(cls, **changes) -> "Recipe":
        """The paper's method as it is written: convex rank-1 mixing, a stratified partition into
        five folds, the exact hypergradient through one inner step, all weights averaged. Learning
        rates belong to the encoder."""
        paper: dict[str, Any] = {
            "epochs": 3.0,
            "learning_rate": 1e-4,
            "head_init": "random",
            "folds": 5,
            "search_epochs": 3.0,
            "search_learning_rate": 1e-4,
        }
        return cls(**paper | changes)

    @classmethod
    def released(cls, **changes) -> "Recipe":
        """What the released code does, as far as it is sane.

        Kept: the product of complements, factors clipped to [0, 1] and drawn from N(1, 0.005), five
        independent 80/20 draws, a DARTS finite difference with dropout masks that differ between
        its two passes, the average of everything.
        Departures: draws are stratified; each inner batch is stepped once, not twice; the
        finite difference has no per-tensor preconditioner, it goes along the derivative of the
        inner optimizer, learning rate included, where there it goes along the bare gradient, and
        its perturbation is undone (`hypergradient="finite_difference_leaking"` leaves it in place,
        as there); learning rates are arguments, for they belong to the encoder.
        """
        released: dict[str, Any] = {
            "partition": "independent",
            "formula": "released",
            "hypergradient": "finite_difference_fresh",
        }
        return cls.paper(**released | changes)

    def fit(self, job: Job) -> Fit:
        mixup = self.mixup(job)
        found = yield self.search(job, mixup)
        alpha = mean([alpha for _, alpha in found])
        task = mean([task for task, _ in found]) if self.average == "all" else self.start(job)
        del found  # the folds' weights would stay in memory
        step = mixed(self.step(job), job, mixup)
        return (yield from self.train(job, step, task, extra=alpha))

    def mixup(self, job: Job) -> Mixup:
        return Mixup(
            granularity=self.granularity,
            rank=self.rank,
            formula=self.formula,
            constraint=self.constraint,
            where=Leaves.of(job.encoder.params, job.encoder.is_mixed),
            init=(self.alpha_init, self.alpha_noise),
        )

    def problem(self, job: Job, mixup: Mixup, inner_steps: int) -> BilevelProblem:
        """The bi-level problem of one fold."""
        estimator = HYPERGRADIENTS[self.hypergradient]
        if self.accumulate > 1:
            estimator = Exact(microbatch=self.accumulate)
        return BilevelProblem(
            job.loss,
            mixup,
            inner=self.inner_optimizer(job, inner_steps),
            outer=self.outer(mixup, inner_steps // self.unroll),
            unroll=self.unroll,
            hypergradient=estimator,
            lookahead=self.lookahead,
        )

    def outer(self, mixup: Mixup, steps: int) -> optax.GradientTransformation:
        """Adam on alpha, cosine to 0, after the pull toward the pretrained side."""
        direction = adam()
        if self.alpha_l1 or self.alpha_l2:
            direction = pulled(mixup, self.alpha_l1, self.alpha_l2)
        return scheduled(direction, warmup_cosine(self.outer_learning_rate, steps, self.warmup))

    def search(self, job: Job, mixup: Mixup) -> Phase:
        """One lane a fold; a lane's result is its task weights and alpha."""
        splits = self.splits(job)
        inner_steps = self.inner_steps(job, splits)
        inner_steps = max(self.unroll, inner_steps - inner_steps % self.unroll)
        problem = self.problem(job, mixup, inner_steps)

        def rows(lane, t):
            inner, outer = splits[lane]
            steps = range(t * self.unroll, (t + 1) * self.unroll)
            return {
                "inner": np.stack([self.inner_rows(job, lane, k, inner) for k in steps]),
                "outer": job.rows(f"outer {lane}", t, self.batch_size, outer),
            }

        return self.search_phase(
            job,
            SearchStep(problem),
            lanes=[
                partial(problem.init, job.key(f"search {lane}"), job.encoder.params, task=start)
                for lane, start in enumerate(self.starts(job))
            ],
            rows=rows,
            steps=inner_steps // self.unroll,
            updates=self.unroll,
            cost=problem.gradients,
            result=lambda state: (state.task, state.alpha),
        )


def mixed(step: Supervised, job: Job, mixup: Mixup) -> Supervised:
    """`step` on the task weights at the mixed ones, with a fixed alpha in `extra`."""
    weights = mixed_weights(mixup)
    objective = loss_at(weights, job.loss)
    return replace(step, objective=objective, weights=weights, shares=mixed_shares(mixup))


@lru_cache(maxsize=64)
def mixed_weights(mixup: Mixup):
    return lambda task, alpha, pretrained: mixup.mix(alpha, task, pretrained)


@lru_cache(maxsize=64)
def mixed_shares(mixup: Mixup):
    # Not under jit, which would sort a mapping: the search logs the shares in this order.
    return lambda alpha: {
        path: np.asarray(share) for path, share in shares_by_leaf(mixup, alpha).items()
    }


def shares_by_leaf(mixup: Mixup, alpha: PyTree) -> dict[str, jax.Array]:
    """`mixup.alpha_of(alpha)` by the mixed leaf's joined path, which a layer's leaves share."""
    shares = mixup.alpha_of(alpha)
    if mixup.granularity == "layer":
        assert isinstance(mixup.where, Leaves)
        return {path: shares[mixup.layer_of(path)] for path in sorted(mixup.where.paths)}
    return _trees.by_path(shares)


@lru_cache(maxsize=64)
def pulled(mixup: Mixup, l1: float, l2: float) -> optax.GradientTransformation:
    """Adam after adding the gradient of `l1 * mean|alpha| + l2 * mean alpha^2` of each matrix."""

    def penalty(alpha):
        shares = jax.tree.leaves(mixup.alpha_of(alpha))
        # A stacked leaf is as many matrices as it has layers.
        terms = (l1 * jnp.abs(share) + l2 * share**2 for share in shares)
        return sum(term.mean((-2, -1)).sum() for term in terms)

    pull = optax.stateless(
        lambda updates, alpha: jax.tree.map(jnp.add, updates, jax.grad(penalty)(alpha))
    )
    return optax.chain(pull, adam())
