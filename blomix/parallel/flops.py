"""Counting the floating-point operations of a traced function."""

from math import prod
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def matrix_flops(function, *arguments: Any, while_turns: int = 1) -> float:
    """FLOPs of the matrix products of `function(*arguments)` (shapes will do): two for each
    multiply-add. Loops count as often as they run, which the compiler's own count does not do;
    `while` loops, whose number of turns only a run knows, as often as `while_turns` says."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, while_turns)


def _count(jaxpr: Any, while_turns: int) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            depth = prod(left[axis] for axis in contracted)
            total += 2.0 * prod(equation.outvars[0].aval.shape) * depth
        else:
            name = equation.primitive.name
            times = {"scan": equation.params.get("length"), "while": while_turns}.get(name, 1)
            total += times * sum(_count(inner, while_turns) for inner in _inner(equation))
    return total


def _inner(equation: Any) -> list[Any]:
    if equation.primitive.name == "custom_linear_solve":  # of its four functions this one runs
        return [equation.params["jaxprs"].solve.jaxpr]
    return [getattr(inner, "jaxpr", inner) for inner in jaxprs_in_params(equation.params)]
