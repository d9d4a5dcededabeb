"""The indirect part where alpha is few numbers: forward over forward against forward over reverse.

python -m experiments.hypergradient_error.forward_forward

Compiled FLOPs and temporaries of `d/dt d/dalpha f(task + t c, alpha)`, against one gradient.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from blomix import Mixup

DEPTH, WIDTH, BATCH = 8, 128, 512


def loss(params, x):
    for weights in jax.tree.leaves(params):
        x = jax.nn.gelu(x @ weights)
    return jnp.mean(x**2)


def measure(numbers: int) -> dict[str, dict[str, float]]:
    """FLOPs and temporary bytes of each way, divided by those of a gradient."""
    mixup = Mixup("layer")
    weights = jax.ShapeDtypeStruct((WIDTH, WIDTH), "float32")
    part = {f"weights_{i}": weights for i in range(DEPTH // numbers)}
    pretrained = {f"part_{i}": part for i in range(numbers)}
    x = jax.ShapeDtypeStruct((BATCH, WIDTH), "float32")
    alpha = jax.eval_shape(mixup.init, jax.random.key(0), pretrained)

    def f(task, alpha, pretrained, x):
        return loss(mixup.mix(alpha, task, pretrained), x)

    def gradient(task, alpha, pretrained, x, direction):
        return jax.grad(f)(task, alpha, pretrained, x)

    def forward_over_reverse(task, alpha, pretrained, x, direction):
        of_alpha = lambda task: jax.grad(f, argnums=1)(task, alpha, pretrained, x)  # noqa: E731
        return jax.jvp(of_alpha, (task,), (direction,))[1]

    def forward_over_forward(task, alpha, pretrained, x, direction):
        flat, unravel = ravel_pytree(alpha)

        def slope(flat):
            at = lambda task: f(task, unravel(flat), pretrained, x)  # noqa: E731
            return jax.jvp(at, (task,), (direction,))[1]

        along = jax.vmap(lambda basis: jax.jvp(slope, (flat,), (basis,))[1])
        return unravel(along(jnp.eye(flat.size)))

    def compiled(function):
        program = jax.jit(function).lower(pretrained, alpha, pretrained, x, pretrained).compile()
        return program.cost_analysis()["flops"], program.memory_analysis().temp_size_in_bytes

    unit = compiled(gradient)
    ways = {
        "forward over reverse": forward_over_reverse,
        "forward over forward": forward_over_forward,
    }
    measured = {name: compiled(way) for name, way in ways.items()}
    return {
        name: {"flops": round(flops / unit[0], 2), "temporaries": round(size / unit[1], 2)}
        for name, (flops, size) in measured.items()
    }


def main() -> None:
    results = {f"numbers in alpha: {numbers}": measure(numbers) for numbers in (1, 2, 4, 8)}
    text = json.dumps(results, indent=1)
    print(text)
    (Path(__file__).parent / "results" / "forward_forward.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
