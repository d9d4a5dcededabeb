"""Check the installation, the devices, and that the hypergradient is exact on them."""

import sys
from dataclasses import dataclass
from typing import Any

PACKAGES = (
    "blomix",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tokenizers",
    "datasets",
    "safetensors",
    "huggingface-hub",
    "numpy",
    "scikit-learn",
    "libtpu",
)


@dataclass(frozen=True)
class Config:
    """Flags of `blomix doctor`."""

    json: bool = False
    """Print the result as one JSON line."""


def run(config: Config) -> dict[str, Any]:
    import jax

    from blomix.runs.environment import version_of

    return {
        "python": sys.version.split()[0],
        "packages": {name: version_of(name) or "not installed" for name in PACKAGES},
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "hypergradient_error": hypergradient_error(),
    }


def text(result: dict[str, Any]) -> str:
    packages = "\n".join(f"  {name} {version}" for name, version in result["packages"].items())
    return (
        f"python {result['python']}\n{packages}\n"
        f"{result['backend']}: {', '.join(result['devices'])}\n"
        "exact hypergradient against plain jax.grad, float32: relative difference "
        f"{result['hypergradient_error']:.1e}"
    )


def hypergradient_error() -> float:
    """Relative difference of the exact hypergradient and plain `jax.grad` on a small regression."""
    import jax
    import jax.numpy as jnp
    import optax

    from blomix.bilevel import BilevelProblem
    from blomix.mixup import Mixup

    def loss(params, batch, key):
        inputs, targets = batch
        return jnp.mean((jnp.tanh(inputs @ params["in"]) @ params["out"] - targets) ** 2)

    keys = jax.random.split(jax.random.key(0), 6)
    pretrained = {
        "in": jax.random.normal(keys[0], (8, 16)),
        "out": jax.random.normal(keys[1], (16, 4)),
    }
    inputs, targets = jax.random.normal(keys[2], (3, 32, 8)), jax.random.normal(keys[3], (3, 32, 4))

    def hypergradient(estimator):
        problem = BilevelProblem(
            loss,
            Mixup(init=0.5),
            inner=optax.sgd(0.1),
            outer=optax.sgd(0.1),
            unroll=2,
            hypergradient=estimator,
        )
        state = problem.init(keys[4], pretrained)
        inner, outer = (inputs[:2], targets[:2]), (inputs[2], targets[2])
        gradient = problem.hypergradient(state, pretrained, inner, outer)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(gradient)])

    exact, reverse = hypergradient("exact"), hypergradient("reverse")
    return float(jnp.linalg.norm(exact - reverse) / jnp.linalg.norm(reverse))
