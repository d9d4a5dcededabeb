"""Running a stack of layers: unrolled or scanned, rematerialised or not, shared or not."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import jax

Step = Callable[[Any, jax.Array, Any], jax.Array]


def run(
    step: Step,
    layers: dict[str, Any],
    x: jax.Array,
    keys: jax.Array | None,
    order: tuple[int, ...],
    *,
    scan: bool,
    stacked: bool,
    remat: bool,
) -> list[jax.Array]:
    """The states x_0 = x and x_(i+1) = step(weights of layer order[i], x_i, keys[i]).

    `layers` maps "0", "1", ... to a layer's weights or, `stacked`, is one layer's weights with a
    leading axis. A scan of shared layers runs over each series of steps with the same weights.
    """
    if remat:
        step = jax.checkpoint(step)

    if stacked:
        return _scan(lambda x, own: step(own[0], x, own[1]), x, (layers, keys), len(order))
    states = [x]
    if not scan:
        for i, layer in enumerate(order):
            states.append(step(layers[str(layer)], states[-1], None if keys is None else keys[i]))
        return states
    start = 0
    for layer, same in groupby(order):
        stop = start + len(list(same))
        weights = layers[str(layer)]
        own_keys = None if keys is None else keys[start:stop]

        def advance(x, key, weights=weights):
            return step(weights, x, key)

        states += _scan(advance, states[-1], own_keys, stop - start)[1:]
        start = stop
    return states


def _scan(advance, x: jax.Array, inputs, length: int) -> list[jax.Array]:
    def body(x, own):
        x = advance(x, own)
        return x, x

    _, states = jax.lax.scan(body, x, inputs, length)
    return [x, *states]
