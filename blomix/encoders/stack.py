"""Running a stack of layers: unrolled or scanned, rematerialised or not, shared or not."""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import jax

from blomix.encoders.rows import split_rows

# (number of the layer, its weights, state, the step's own inputs) -> next state
Step = Callable[[int, Any, jax.Array, Any], jax.Array]


def run(
    step: Step,
    layers: dict[str, Any],
    x: jax.Array,
    inputs: Any,
    order: tuple[int, ...],
    *,
    scan: bool,
    stacked: bool,
    remat: bool,
) -> list[jax.Array]:
    """The states x_0 = x and x_(i+1) = step(order[i], weights of order[i], x_i, inputs[i]).

    `inputs` is a pytree of arrays with a leading axis of steps; a step gets its own part of it.
    `layers` maps "0", "1", ... to a layer's weights or, `stacked`, is one layer's weights with a
    leading axis; then `step` hears layer 0 throughout. A scan of shared layers runs over each
    series of steps with the same weights.
    """
    step = _by_rows(step)
    if remat:
        step = jax.checkpoint(step, static_argnums=(0,))

    if stacked:
        return _scan(lambda x, own: step(0, own[0], x, own[1]), x, (layers, inputs), len(order))
    states = [x]
    if not scan:
        for i, layer in enumerate(order):
            own = jax.tree.map(lambda leaf, i=i: leaf[i], inputs)
            states.append(step(layer, layers[str(layer)], states[-1], own))
        return states
    start = 0
    for layer, same in groupby(order):
        stop = start + len(list(same))
        weights = layers[str(layer)]
        own = jax.tree.map(lambda leaf, part=slice(start, stop): leaf[part], inputs)

        def advance(x, own, layer=layer, weights=weights):
            return step(layer, weights, x, own)

        states += _scan(advance, states[-1], own, stop - start)[1:]
        start = stop
    return states


def _by_rows(step: Step) -> Step:
    return lambda layer, weights, x, own: split_rows(step(layer, weights, split_rows(x), own))


def _scan(advance, x: jax.Array, inputs, length: int) -> list[jax.Array]:
    def body(x, own):
        x = advance(x, own)
        return x, x

    _, states = jax.lax.scan(body, x, inputs, length)
    return [x, *states]
