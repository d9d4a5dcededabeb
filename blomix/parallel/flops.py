"""Counting the floating-point operations of a traced function."""

from math import prod
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def matrix_flops(function, *arguments: Any) -> float:
    """FLOPs of the matrix products of `function(*arguments)` (shapes will do): two for each
    multiply-add. Loops count as often as they run, which the compiler's own count does not do."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            depth = prod(left[axis] for axis in contracted)
            total += 2.0 * prod(equation.outvars[0].aval.shape) * depth
        else:
            times = equation.params["length"] if equation.primitive.name == "scan" else 1
            total += times * sum(map(_count, _inner(equation)))
    return total


def _inner(equation: Any) -> list[Any]:
    return [getattr(inner, "jaxpr", inner) for inner in jaxprs_in_params(equation.params)]
