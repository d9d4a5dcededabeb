"""One bi-level problem: inner steps on the task weights, an outer step on alpha."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from blomix._trees import by_path, check_like, merge, split_floats
from blomix.errors import InputError
from blomix.hypergradient import ESTIMATORS, Estimator, Setting
from blomix.hypergradient.unrolled import plain_gradient, unroll
from blomix.mixup import Mixup

PyTree = Any
Loss = Callable[[PyTree, PyTree, jax.Array], Any]

# Adam's update has no derivative where a gradient and its history are exactly 0 (the embedding
# rows of absent tokens), unless eps_root > 0.
adam = partial(optax.adam, eps_root=1e-16)
adamw = partial(optax.adamw, eps_root=1e-16)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "task", "alpha", "inner_state", "outer_state", "key"],
    meta_fields=[],
)
@dataclass(frozen=True)
class BilevelState:
    """All that changes from one outer step to the next; a pytree.

    Attributes:
      step: outer steps taken, an int32 scalar.
      task: task weights, a pytree like the pretrained ones.
      alpha: what `Mixup.init` gives.
      inner_state: the inner optimizer's state, for the float leaves of `task`.
      outer_state: the outer optimizer's state, for `alpha`.
      key: a PRNG key that stays as it is; the keys of a step are drawn from it and `step`.
    """

    step: jax.Array
    task: PyTree
    alpha: PyTree
    inner_state: PyTree
    outer_state: PyTree
    key: jax.Array


@dataclass(frozen=True, init=False)
class BilevelProblem:
    r"""min over alpha of `L_outer(W_K(alpha), alpha)`, W_K being the end of K inner updates.

    The inner updates minimise `loss` over the task weights W (all float leaves, mixed or not) on
    `inner_batches`; the outer update minimises it over alpha on `outer_batch`. Both see
    `loss(mixup.mix(alpha, W, pretrained), batch, key)`.

    The keys of outer step t are `split(fold_in(state.key, t), K + 1)`: one for each inner step,
    the last for the outer loss.

    Args:
      loss: `loss(params, batch, key) -> scalar`, or `(scalar, aux)` with `has_aux`.
      mixup: what alpha is.
      inner: any optax optimizer. Default: AdamW at 2e-5 with weight decay 0.01.
      outer: any optax optimizer. Default: Adam at 2e-3.
      unroll: K, the inner steps an outer step is taken through.
      hypergradient: a name in `blomix.hypergradient.ESTIMATORS`, or one of the estimators of
        that module with options of its own.
      lookahead: False carries the unrolled task weights forward; True redoes the inner steps
        from `state.task` with the new alpha, on the same batches and keys (the order of DARTS,
        Liu et al. 2019, arXiv:1806.09055), at the cost of K more gradients.
      has_aux: whether `loss` returns `(scalar, aux)`.

    Raises:
      InputError: an option that does not exist; from the methods, a leaf or a batch of the wrong
        shape, by its path.
    """

    loss: Loss
    mixup: Mixup
    inner: optax.GradientTransformationExtraArgs
    outer: optax.GradientTransformationExtraArgs
    unroll: int
    estimator: Estimator
    lookahead: bool
    has_aux: bool

    # Written out because the argument `hypergradient` must not hide the method.
    def __init__(
        self,
        loss: Loss,
        mixup: Mixup | None = None,
        inner: Any = None,
        outer: Any = None,
        unroll: int = 1,
        hypergradient: str | Estimator = "exact",
        lookahead: bool = False,
        has_aux: bool = False,
    ):
        if not isinstance(unroll, int) or isinstance(unroll, bool) or unroll < 1:
            raise InputError(
                f"BilevelProblem: unroll should be a whole number of at least 1, found {unroll}"
            )
        if isinstance(hypergradient, str):
            estimator = ESTIMATORS.get(hypergradient)
        else:
            estimator = hypergradient
        if not isinstance(estimator, Estimator):
            raise InputError(
                f"BilevelProblem: hypergradient should be one of {sorted(ESTIMATORS)} or an "
                f"estimator of blomix.hypergradient, found {hypergradient!r}"
            )
        # Not `self.x = x`: a frozen dataclass refuses that.
        self.__dict__.update(
            loss=loss,
            mixup=Mixup() if mixup is None else mixup,
            inner=optax.with_extra_args_support(inner or adamw(2e-5, weight_decay=0.01)),
            outer=optax.with_extra_args_support(outer or optax.adam(2e-3)),
            unroll=unroll,
            estimator=estimator,
            lookahead=lookahead,
            has_aux=has_aux,
        )

    def init(
        self, key: jax.Array, pretrained: PyTree, task: PyTree = None, alpha: PyTree = None
    ) -> BilevelState:
        """The state before the first step; `task` starts at the pretrained weights.

        Warns where the derivative of the inner optimizer's update is not finite at a gradient
        of 0, and the estimator takes it; and where alpha has 16 bits.
        """
        alpha_key, key = jax.random.split(key)
        start = self.mixup.init(alpha_key, pretrained)
        if task is not None:
            check_like("task", task, pretrained)
        if alpha is not None:
            check_like("alpha", alpha, start)
        # Copies, so that the state can be donated while its sources live on, and holds no array
        # twice where an optimizer keeps the weights it started from.
        task = _copy(pretrained if task is None else task)
        alpha = start if alpha is None else _copy(alpha)
        floats, _ = split_floats(task)
        if self.estimator.differentiates_updates:
            warn_if_not_differentiable(self.inner, floats)
        warn_if_coarse(alpha)
        return BilevelState(
            step=jnp.zeros((), jnp.int32),
            task=task,
            alpha=alpha,
            inner_state=self.inner.init(_copy(floats)),
            outer_state=self.outer.init(_copy(alpha)),
            key=key,
        )

    def hypergradient(
        self, state: BilevelState, pretrained: PyTree, inner_batches: PyTree, outer_batch: PyTree
    ) -> PyTree:
        """d outer loss / d alpha through the K inner steps: a pytree like `state.alpha`."""
        setting = self._setting(state, pretrained, inner_batches, outer_batch)
        outer_loss = partial(self.estimator.outer_loss, setting)
        return jax.grad(outer_loss, has_aux=True)(state.alpha)[0]

    def step(
        self, state: BilevelState, pretrained: PyTree, inner_batches: PyTree, outer_batch: PyTree
    ) -> tuple[BilevelState, dict[str, Any]]:
        """K inner steps and one outer step; pure.

        Returns the next state and metrics, all scalars: `inner_loss` and `gradient_norm` (means
        over the K inner steps), `outer_loss` (after them), `hypergradient_norm`, `update_norm`
        (how far the task weights moved) and `alpha_update_norm`; with `has_aux` also `inner_aux`
        (stacked over the K steps) and `outer_aux`.
        """
        setting = self._setting(state, pretrained, inner_batches, outer_batch)
        outer_loss = partial(self.estimator.outer_loss, setting)
        (loss, outcome), hypergradient = jax.value_and_grad(outer_loss, has_aux=True)(state.alpha)
        updates, outer_state = self.outer.update(
            hypergradient, state.outer_state, state.alpha, value=loss
        )
        alpha = self.mixup.project(optax.apply_updates(state.alpha, updates))
        task, inner_state = outcome.task, outcome.inner_state
        if self.lookahead:
            (task, inner_state), _ = unroll(setting, plain_gradient, alpha)
        metrics = {
            "inner_loss": jnp.mean(outcome.inner.loss),
            "outer_loss": loss,
            "gradient_norm": jnp.mean(outcome.inner.gradient_norm),
            "hypergradient_norm": optax.tree.norm(hypergradient),
            "update_norm": optax.tree.norm(optax.tree.sub(task, setting.task)),
            "alpha_update_norm": optax.tree.norm(optax.tree.sub(alpha, state.alpha)),
        }
        if self.has_aux:
            metrics |= {"inner_aux": outcome.inner.aux, "outer_aux": outcome.outer_aux}
        _, others = split_floats(state.task)
        next_state = BilevelState(
            step=state.step + 1,
            task=merge(task, others),
            alpha=alpha,
            inner_state=inner_state,
            outer_state=outer_state,
            key=state.key,
        )
        return next_state, metrics

    @property
    def gradients(self) -> float:
        """What a step costs, in gradient evaluations of the loss."""
        return self.estimator.cost(self.unroll) + self.lookahead * self.unroll

    def _mix(self, alpha: PyTree, task: PyTree, shared: PyTree) -> PyTree:
        """The float leaves of the weights the model runs with."""
        pretrained, others = shared
        return split_floats(self.mixup.mix(alpha, merge(task, others), pretrained))[0]

    def _loss(self, mixed: PyTree, data: PyTree) -> tuple[jax.Array, Any]:
        (_, others), (batch, key) = data
        value = self.loss(merge(mixed, others), batch, key)
        return value if self.has_aux else (value, None)

    def _setting(self, state, pretrained, inner_batches, outer_batch) -> Setting:
        for path, leaf in by_path(inner_batches).items():
            if jnp.shape(leaf)[:1] != (self.unroll,):
                raise InputError(
                    f"inner_batches: the leaf {path!r} should have a leading axis of length "
                    f"unroll = {self.unroll}, found shape {jnp.shape(leaf)}"
                )
        keys = jax.random.split(jax.random.fold_in(state.key, state.step), self.unroll + 1)
        floats, others = split_floats(state.task)
        return Setting(
            mix=self._mix,
            loss=self._loss,
            inner=self.inner,
            shared=(pretrained, others),
            task=floats,
            inner_state=state.inner_state,
            inner_data=(inner_batches, keys[:-1]),
            outer_data=(outer_batch, keys[-1]),
        )


def _copy(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)


def warn_if_not_differentiable(optimizer: optax.GradientTransformation, params: PyTree) -> None:
    """Warns where the derivative of an update at a gradient of exactly 0 is not finite."""
    leaves, treedef = jax.tree.flatten(params)
    layout = tuple((tuple(min(n, 2) for n in jnp.shape(leaf)), leaf.dtype) for leaf in leaves)
    path = _not_differentiable(optimizer, treedef, layout)
    if path is not None:
        warnings.warn(
            f"the inner optimizer's update has no finite derivative where a gradient is "
            f"exactly 0 (tried on {path!r}): the hypergradient becomes NaN at the first such "
            "entry, as in the embedding rows of absent tokens; in float32 or wider, give the "
            "optimizer a small eps_root, as optax.adamw(2e-5, eps_root=1e-16) and "
            "blomix.bilevel.adamw(2e-5) have, or, where it has no eps_root, a greater eps",
            stacklevel=3,
        )


def warn_if_coarse(alpha: PyTree) -> None:
    """Warns where alpha has too few bits to follow small steps near 1, where it starts."""
    for path, leaf in by_path(alpha).items():
        if jnp.finfo(leaf.dtype).bits < 32:
            warnings.warn(
                f"alpha is {leaf.dtype} (at {path!r}): between 0.5 and 1 it moves by steps of "
                f"{float(jnp.finfo(leaf.dtype).epsneg):.1g} or not at all; give init a finer one, "
                "alpha=jax.tree.map(lambda a: a.astype(jnp.float32), mixup.init(key, pretrained))",
                stacklevel=3,
            )
            return


@lru_cache(maxsize=64)
def _not_differentiable(optimizer, treedef, layout: tuple) -> str | None:
    """The path of the first leaf where the derivative is not finite, None where it always is.

    Tried on weights of the same structure, with axes of at most 2, one gradient entry in two
    being 0; evaluated at once, also while a caller is traced, and once an optimizer.
    """
    with jax.ensure_compile_time_eval():
        params = treedef.unflatten(np.full(shape, 0.1, dtype) for shape, dtype in layout)
        gradients = jax.tree.map(
            lambda x: jnp.where(jnp.arange(x.size) % 2, 0, 0.1).reshape(x.shape).astype(x.dtype),
            params,
        )

        loss = jnp.ones(())

        def update(gradients):
            return optimizer.update(gradients, optimizer.init(params), params, value=loss)[0]

        try:
            updates, pull_back = jax.vjp(update, gradients)
            (derivative,) = pull_back(jax.tree.map(jnp.ones_like, updates))
        except (TypeError, ValueError):
            return None  # an optimizer that depends on the sizes cannot be tried
    bad = (path for path, leaf in by_path(derivative).items() if not np.isfinite(leaf).all())
    return next(bad, None)
