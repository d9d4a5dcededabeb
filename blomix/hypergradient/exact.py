r"""The exact hypergradient by mixed-mode differentiation, scheduled for little memory.

An inner step is a gradient with respect to the mixed weights, then arithmetic leaf by leaf:

    mixed_k = mix(alpha, task_k),   G_k = grad L(mixed_k),
    (task_{k+1}, state_{k+1}) = update(alpha, task_k, state_k, G_k).

`update` pulls G_k back to the task weights and applies the optimizer. Backward, step k turns the
cotangents of (task_{k+1}, state_{k+1}) into those of alpha and (task_k, state_k):

1. through `update`, by `jax.vjp`; this also gives u, the cotangent of G_k;
2. through the gradient: the Hessian is symmetric, so `u^T dG_k/dmixed` is the tangent of G along
   u, one jvp of a gradient (forward over reverse; Pearlmutter 1994, Kemaev et al. 2025,
   arXiv:2505.00793), which is then pulled back through `mix`.

What is kept of a step is G_k alone, one copy of the weights, whatever the optimizer: task and
state are replayed from the start of their segment without a matrix product. The sharing of 1. and
2. saves the weights' half of the primal backward pass in 2.: 8 units of matrix multiplication
(forward = 1, backward = 2) instead of 9, and 6 if the residuals of the gradient are kept too.

Stages are kept apart by optimization barriers. Without them the compiler would find the mixing of
one stage again in another, and keep its dense intermediates from the first to the last.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from blomix._trees import merge, split_floats
from blomix.accumulation import in_parts
from blomix.errors import InputError
from blomix.hypergradient.unrolled import (
    Estimator,
    Outcome,
    OuterLoss,
    Record,
    Setting,
    with_derivative,
)

PyTree = Any
Carry = tuple[PyTree, PyTree]  # task weights and optimizer state, or their cotangents

_stage = jax.lax.optimization_barrier

# Segments shorter than this are not worth a gradient computed twice.
_SHORTEST_SEGMENT = 16


class Kept(NamedTuple):
    """What is kept of an inner step: the loss, G and, with kept residuals, the tangents of G."""

    loss: jax.Array
    gradient: PyTree
    tangents: Callable[[PyTree], PyTree] | None


def _worth_keeping(primitive, *shapes, **options) -> bool:
    """A checkpoint policy: products with weights, and random words, which take long to draw."""
    if primitive.name == "random_bits":
        return True
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *shapes, **options)


def value_and_gradient(loss: Callable, microbatch: int = 1) -> Callable:
    """`(mixed, data) -> ((loss, aux), G)`, in `microbatch` parts of the batch.

    See `in_parts`; aux gets a leading axis of the length `microbatch` where that is not 1.
    """
    whole = jax.value_and_grad(loss, has_aux=True)
    if microbatch == 1:
        return whole

    def accumulated(mixed, data):
        shared, (batch, key) = data

        def of_part(mixed, batch, key):
            return whole(mixed, (shared, (batch, key)))

        (losses, aux), gradient = in_parts(of_part, microbatch)(mixed, batch, key)
        return (jnp.mean(losses), aux), gradient

    return accumulated


@dataclass(frozen=True)
class InnerStep:
    """One inner step of `setting` and its pull-back.

    `keep_residuals` keeps the outputs of the matrix products with weights, of the forward and of
    the backward pass of the inner gradient, and random words; all else is recomputed from them.
    """

    setting: Setting
    keep_residuals: bool
    microbatch: int

    def mix(self, alpha: PyTree, task: PyTree) -> PyTree:
        return self.setting.mix(alpha, task, self.setting.shared)

    def value_and_gradient(self, mixed: PyTree, data: PyTree):
        compute = value_and_gradient(self.setting.loss, self.microbatch)
        return compute(mixed, (self.setting.shared, data))

    def forward(self, alpha: PyTree, task: PyTree, data: PyTree) -> tuple[Kept, Any]:
        """(what is kept, aux) of the inner gradient."""
        mixed = self.mix(alpha, task)
        if not self.keep_residuals:
            (loss, aux), gradient = self.value_and_gradient(mixed, data)
            return Kept(loss, gradient, None), aux

        def gradient_first(mixed):
            value, gradient = self.value_and_gradient(mixed, data)
            return gradient, value

        gradient, tangents, (loss, aux) = jax.linearize(
            jax.checkpoint(gradient_first, policy=_worth_keeping), mixed, has_aux=True
        )
        return Kept(loss, gradient, tangents), aux

    def task_gradient(self, alpha: PyTree, task: PyTree, gradient: PyTree) -> PyTree:
        """G pulled back to the task weights."""
        _, pull_back = jax.vjp(lambda task: self.mix(alpha, task), task)
        return pull_back(gradient)[0]

    def update(self, alpha: PyTree, carry: Carry, kept: Kept) -> Carry:
        task, state = carry
        gradient = self.task_gradient(alpha, task, kept.gradient)
        updates, state = self.setting.inner.update(gradient, state, task, value=kept.loss)
        return optax.apply_updates(task, updates), state

    def loss_around(self, alpha: PyTree, task: PyTree, gradient: PyTree, loss: jax.Array):
        """`loss`, with the derivative G: for an optimizer whose update depends on the loss."""
        mixed = self.mix(alpha, task)
        moved = optax.tree.sub(mixed, jax.lax.stop_gradient(mixed))
        return loss + jnp.asarray(optax.tree.vdot(gradient, moved), loss.dtype)

    def back_through_update(self, alpha: PyTree, carry: Carry, kept: Kept, after: Carry):
        """Cotangents (alpha, (task, state), G) from those of the carry after the step.

        `carry` is the one before the step; cotangents of a state are those of its float leaves.
        """
        task, state = carry
        floats, others = split_floats(state)

        def update(alpha, task, floats, gradient):
            loss = self.loss_around(alpha, task, gradient, kept.loss)
            kept_here = kept._replace(loss=loss, gradient=gradient)
            task, state = self.update(alpha, (task, merge(floats, others)), kept_here)
            return task, split_floats(state)[0]

        at, after = _stage(((alpha, task, floats, kept.gradient), after))
        alpha_bar, task_bar, state_bar, direction = jax.vjp(update, *at)[1](after)
        return _stage((alpha_bar, (task_bar, state_bar), direction))

    def back_through_gradient(self, alpha, task, data, kept: Kept, direction):
        """Cotangents (alpha, task) from `direction`, that of G."""
        alpha, task, direction = _stage((alpha, task, direction))
        if kept.tangents is not None:
            tangent = kept.tangents(direction)
        else:
            _, tangent = jax.jvp(
                lambda mixed: self.value_and_gradient(mixed, data)[1],
                (self.mix(alpha, task),),
                (direction,),
            )
        alpha, task, tangent = _stage((alpha, task, tangent))
        return jax.vjp(self.mix, alpha, task)[1](tangent)

    def outer(self, alpha: PyTree, task: PyTree):
        """((outer loss, aux), cotangents of (alpha, task))."""
        alpha, task = _stage((alpha, task))
        value, gradient = self.value_and_gradient(self.mix(alpha, task), self.setting.outer_data)
        alpha, task, gradient = _stage((alpha, task, gradient))
        return value, jax.vjp(self.mix, alpha, task)[1](gradient)


@dataclass(frozen=True)
class Exact(Estimator):
    """Through all inner steps, by mixed-mode differentiation: see above.

    Cost in gradients (one = 3 units of matrix multiplication): 1 + 11/3 K with residuals
    recomputed, 1 + 3 K with residuals kept; and one more for every step before the last segment.

    Args:
      residuals: `"recompute"` runs the forward pass and half of the backward pass of the inner
        gradient again for the tangent pass; `"keep"` keeps their matrix products instead, for
        all steps of a segment. To be chosen for models without layer remat.
      microbatch: parts that each batch is cut into, forward, backward and tangent, so that
        activations take 1/n of the memory. Only for a loss that is a mean over examples; dropout
        keys are then drawn part by part, and aux gets an axis of length n.
      segment: inner steps between two stored (task, optimizer state). Within a segment one copy
        of the weights a step is kept; the last step stands alone. Default: 16 up to K = 85, about
        sqrt(3 K) beyond.
    """

    residuals: Literal["recompute", "keep"] = "recompute"
    microbatch: int = 1
    segment: int | None = None

    def __post_init__(self):
        if self.residuals not in ("recompute", "keep"):
            raise InputError(
                f"Exact: residuals should be 'recompute' or 'keep', found {self.residuals!r}"
            )
        for name, value in (("microbatch", self.microbatch), ("segment", self.segment)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(
                    f"Exact: {name} should be a whole number of at least 1, found {value}"
                )

    def outer_loss(self, setting: Setting, alpha: PyTree) -> OuterLoss:
        return with_derivative(self._value_and_derivative, setting, alpha)

    def _value_and_derivative(self, setting: Setting, alpha: PyTree) -> tuple[OuterLoss, PyTree]:
        step = InnerStep(setting, self.residuals == "keep", self.microbatch)
        length = jax.tree.leaves(setting.inner_data)[0].shape[0]
        return _through_all(step, alpha, length, self.segment or default_segment(length))

    def cost(self, unroll: int) -> float:
        segment = self.segment or default_segment(unroll)
        computed_twice = max(unroll - 2, 0) // segment * segment
        tangent = 2 if self.residuals == "keep" else 8 / 3
        return 1 + (1 + tangent) * unroll + computed_twice


def default_segment(length: int) -> int:
    """Steps of a segment, so that the copies of the weights kept grow as the square root of K.

    Counted for an optimizer of Adam's size, whose task and state are three copies.
    """
    return max(_SHORTEST_SEGMENT, math.ceil(math.sqrt(3 * length)))


def _sum(*trees: PyTree) -> PyTree:
    return jax.tree.map(lambda *leaves: sum(leaves), *trees)


def _last_step(step: InnerStep, alpha: PyTree, before: Carry, data: PyTree):
    """The last inner step, the outer loss, and the way back: (outer loss, cotangents of
    (alpha, `before`)).

    Its gradient needs no place among those of earlier steps, and the new optimizer state waits
    until the old one has been used, and may then take its place.
    """
    kept, aux = step.forward(alpha, before[0], data)
    norm = optax.tree.norm(step.task_gradient(alpha, before[0], kept.gradient))
    task, _ = step.update(alpha, before, kept)
    task, gradient = _stage((task, kept.gradient))

    (outer_loss, outer_aux), (alpha_bar, task_bar) = step.outer(alpha, task)
    state_bar = jax.tree.map(jnp.zeros_like, split_floats(before[1])[0])
    kept, after = _stage((kept._replace(gradient=gradient), (task_bar, state_bar)))
    alpha_update, bars, direction = step.back_through_update(alpha, before, kept, after)
    direction, gradient = _stage((direction, kept.gradient))
    _, state = step.update(_stage(alpha), before, kept._replace(gradient=gradient))
    direction, state = _stage((direction, state))
    alpha_gradient, task_gradient = step.back_through_gradient(
        alpha, before[0], data, kept, direction
    )

    alpha_bar = _sum(alpha_bar, alpha_update, alpha_gradient)
    record = jax.tree.map(lambda x: jnp.asarray(x)[None], Record(kept.loss, norm, aux))
    outer = (outer_loss, Outcome(task, state, record, outer_aux))
    return outer, (alpha_bar, (_sum(bars[0], task_gradient), bars[1]))


def _through_all(
    step: InnerStep, alpha: PyTree, length: int, segment: int
) -> tuple[OuterLoss, PyTree]:
    """The last step, and before it segments of `segment` steps that keep their start each.

    The last segment also keeps its gradients; those of the others are computed again.
    """
    setting = step.setting
    segments = max(length - 2, 0) // segment
    head, last = segments * segment, length - 1
    head_data = jax.tree.map(
        lambda x: x[:head].reshape(segments, segment, *x.shape[1:]), setting.inner_data
    )
    tail_data = jax.tree.map(lambda x: x[head:last], setting.inner_data)
    last_data = jax.tree.map(lambda x: x[last], setting.inner_data)

    def forward(carry, data):
        kept, aux = step.forward(alpha, carry[0], data)
        kept, at, task = _stage((kept, alpha, carry[0]))
        norm = optax.tree.norm(step.task_gradient(at, task, kept.gradient))
        return step.update(at, (task, carry[1]), kept), (kept, Record(kept.loss, norm, aux))

    def backward(bars, start, data, kept):
        """Through one segment, whose steps are replayed from its start."""

        def replay(i, carry):
            return step.update(_stage(alpha), carry, jax.tree.map(lambda x: x[i], kept))

        def one(bars, x):
            k, data, kept_here = x
            carry = jax.lax.fori_loop(0, k, replay, start)
            alpha_bar, after = bars
            through_update = step.back_through_update(alpha, carry, kept_here, after)
            alpha_update, (task_update, state_bar), direction = through_update
            alpha_gradient, task_gradient = step.back_through_gradient(
                alpha, carry[0], data, kept_here, direction
            )
            alpha_bar = _sum(alpha_bar, alpha_update, alpha_gradient)
            return (alpha_bar, (_sum(task_update, task_gradient), state_bar)), None

        ks = jnp.arange(jax.tree.leaves(data)[0].shape[0])
        return jax.lax.scan(one, bars, (ks, data, kept), reverse=True)[0]

    def segment_forward(carry, data):
        def light(carry, data):
            carry, (_, seen) = forward(carry, data)
            return carry, seen

        after, seen = jax.lax.scan(light, carry, data)
        return after, (carry, seen)

    def segment_backward(bars, x):
        start, data = x
        _, (kept, _) = jax.lax.scan(forward, start, data)
        return backward(bars, start, data, kept), None

    start = (setting.task, setting.inner_state)
    if length == 1:
        outer, (alpha_bar, _) = _last_step(step, alpha, start, last_data)
        return outer, alpha_bar

    head_seen = starts = None
    if segments:
        start, (starts, head_seen) = jax.lax.scan(segment_forward, start, head_data)
    before, (kept, seen) = jax.lax.scan(forward, start, tail_data)
    (loss, outcome), bars = _last_step(step, alpha, before, last_data)
    bars = backward(bars, start, tail_data, kept)
    records = [seen, outcome.inner]
    if segments:
        bars, _ = jax.lax.scan(segment_backward, bars, (starts, head_data), reverse=True)
        records.insert(0, jax.tree.map(lambda x: x.reshape(head, *x.shape[2:]), head_seen))
    record = jax.tree.map(lambda *parts: jnp.concatenate(parts), *records)
    return (loss, outcome._replace(inner=record)), bars[0]
