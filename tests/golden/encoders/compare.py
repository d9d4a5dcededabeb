"""Compares an encoder with its fixture; as a script, prints the table of docs/encoders.md."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from blomix.encoders import Encoder
from blomix.encoders.keys import tensors

HERE = Path(__file__).parent
NAMES = sorted(path.parent.name for path in HERE.glob("*/expected.npz"))


def load(name):
    """The encoder, torch's numbers, and the batch."""
    expected = dict(np.load(HERE / name / "expected.npz"))
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    batch = {key: expected[key] for key in inputs if key in expected}
    return Encoder.from_pretrained(HERE / name), expected, batch


def compiled(encoder, expected, batch):
    """Everything there is to compare, as one compiled function of the weights."""
    labels = jnp.asarray(expected["labels"])

    def loss(params):
        logits = encoder.apply(params, batch)
        if encoder.num_labels == 1:
            return jnp.mean((logits[:, 0] - labels) ** 2), logits
        scores = jax.nn.log_softmax(logits)
        return -jnp.mean(scores[jnp.arange(len(labels)), labels]), logits

    @jax.jit
    def everything(params):
        (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        found = {f"hidden_{i}": x for i, x in enumerate(encoder.hidden_states(params, batch))}
        pooled = encoder.pooled(params, batch)
        return {**found, "loss": value, "logits": logits, "pooled": pooled}, gradient

    return everything


def deviations(found, gradient, expected):
    """The largest difference of each number, and the relative one of each gradient's norm.

    A gradient that is 0 in exact arithmetic (a key's bias) is rounding noise in both, so 1e-3 is
    added to the norm.
    """
    numbers = {key: float(np.abs(value - expected[key]).max()) for key, value in found.items()}
    wanted = {
        key.removeprefix("gradient "): leaf
        for key, leaf in expected.items()
        if key.startswith("gradient ")
    }
    gradients = {
        key: float(np.linalg.norm(gradient[key] - leaf) / (np.linalg.norm(leaf) + 1e-3))
        for key, leaf in wanted.items()
    }
    return numbers, gradients


if __name__ == "__main__":
    print("| fixture | states, pooled, logits | gradients, relative |\n|---|---|---|")
    for name in NAMES:
        encoder, expected, batch = load(name)
        found, gradient = compiled(encoder, expected, batch)(encoder.params)
        numbers, gradients = deviations(found, tensors(gradient, encoder.family.keys), expected)
        print(f"| {name} | {max(numbers.values()):.1e} | {max(gradients.values()):.1e} |")
