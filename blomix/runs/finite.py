"""Stop at the first number that is none."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from blomix.errors import InputError


class NonFinite(InputError):
    """A loss, gradient or weight became infinite or NaN: training has diverged."""


def check(
    step: int, metrics: Mapping[str, Any], state: Any = None, rows_digests: Sequence[str] = ()
) -> None:
    """Raise unless every number of `metrics` and of `state` is finite.

    Args:
      step: named in the message.
      metrics: losses and norms by name.
      state: any pytree (gradients, weights, alpha); integer leaves and keys are passed over.
      rows_digests: digests of the examples that this step saw.

    Raises:
      NonFinite: with the step, the first bad metric or leaf, and the examples.
    """
    trees = {"metric ": dict(metrics), "leaf ": state}
    named = [
        (kind + jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for kind, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.inexact)
    ]
    finite = jax.device_get(_all_finite([leaf for _, leaf in named]))
    for (name, leaf), good in zip(named, finite, strict=True):
        if not good:
            digests = ", ".join(digest[:12] for digest in rows_digests) or "not known"
            value = f" is {float(leaf)}" if jnp.ndim(leaf) == 0 else " holds a non-finite number"
            raise NonFinite(
                f"training diverged at step {step}: {name}{value} (examples: {digests}); "
                "the last good state is kept. Lower the learning rate, or look at these examples"
            )


@jax.jit
def _all_finite(leaves: list[Any]) -> list[jax.Array]:
    return [jnp.isfinite(leaf).all() for leaf in leaves]
