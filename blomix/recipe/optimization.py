"""AdamW, and learning rates whose numbers lie in the optimizer's state.

A step is compiled once for all rates and lengths of training: two optimizers that differ in those
numbers alone are equal, and a bench trains a grid of them with one program, even side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from blomix.recipe.leaves import Leaves

PyTree = Any

# Under Adam's square root: without it a zero gradient, such as an embedding row of a token that no
# text has, gives an infinite derivative. It acts as a larger eps: of Adam's first step it takes
# 5e-9 where the gradient is 1e-4, 5e-5 where it is 1e-6, and a sixth where it is 1e-8.
EPS_ROOT = 1e-16


class Rate(NamedTuple):
    """Rises linearly to `peak` in `rising` steps, then falls to 0 at `steps`.

    `shape` is how it falls: a function of the share of the fall that is over.
    """

    peak: float
    rising: int
    steps: int
    shape: Callable[[jax.Array], jax.Array]


def linear(over: jax.Array) -> jax.Array:
    return 1 - over


def cosine(over: jax.Array) -> jax.Array:
    return (1 + jnp.cos(jnp.pi * over)) / 2


def warmup_linear(peak: float, steps: int, warmup: float) -> Rate:
    """Rises in the first `warmup` share of the steps, then falls linearly."""
    return Rate(peak, round(warmup * steps), steps, linear)


def warmup_cosine(peak: float, steps: int, warmup: float) -> Rate:
    """Rises in the first `warmup` share of the steps, then falls as a cosine."""
    return Rate(peak, round(warmup * steps), steps, cosine)


def rate_at(count, peak, rising, steps, shape: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The learning rate of the step that follows `count` others, elementwise; see `Rate`."""
    risen = (count + 1) / jnp.maximum(rising, 1)
    over = jnp.clip((count - rising) / jnp.maximum(steps - rising, 1), 0, 1)
    return peak * jnp.minimum(risen, shape(over))


class RateState(NamedTuple):
    """`count`: int32, steps done; the rest as `Rate` has it, float32."""

    count: jax.Array
    peak: jax.Array
    rising: jax.Array
    steps: jax.Array


@dataclass(frozen=True)
class _Init:
    """Not a closure, so that two are equal whatever their rates."""

    init: Callable[[PyTree], PyTree]
    rate: Rate = field(compare=False)

    def __call__(self, params: PyTree):
        numbers = (self.rate.peak, self.rate.rising, self.rate.steps)
        numbers = (jnp.asarray(number, jnp.float32) for number in numbers)
        return _compiled(self.init)(params), RateState(jnp.zeros((), jnp.int32), *numbers)


@lru_cache(maxsize=64)
def _compiled(init: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
    """One program in place of an operation a leaf: an accelerator compiles each of those."""
    return jax.jit(init)


def scheduled(
    direction: optax.GradientTransformation, rate: Rate
) -> optax.GradientTransformationExtraArgs:
    """Descends along `direction` at `rate`."""
    return optax.GradientTransformationExtraArgs(
        _Init(direction.init, rate), _scheduled_update(direction, rate.shape)
    )


@lru_cache(maxsize=64)
def _scheduled_update(direction: optax.GradientTransformation, shape: Callable):
    update = optax.with_extra_args_support(direction).update

    def scheduled_update(updates, state, params=None, **extra):
        inner, s = state
        updates, inner = update(updates, inner, params, **extra)
        rate = rate_at(s.count, s.peak, s.rising, s.steps, shape)
        updates = jax.tree.map(lambda u: (-rate).astype(u.dtype) * u, updates)
        return updates, (inner, s._replace(count=s.count + 1))

    return scheduled_update


@lru_cache(maxsize=64)
def adam() -> optax.GradientTransformation:
    return optax.scale_by_adam(eps_root=EPS_ROOT)


@lru_cache(maxsize=64)
def adamw(decayed: Leaves, weight_decay: float, clip: float) -> optax.GradientTransformation:
    """`clip` by the global norm, then the direction of AdamW, decaying the leaves `decayed`."""
    return optax.chain(
        optax.clip_by_global_norm(clip),
        adam(),
        optax.add_decayed_weights(weight_decay, mask=decayed.mask),
    )
