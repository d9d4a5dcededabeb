"""The shapes and estimators that the two commands of this study share."""

import jax
import jax.numpy as jnp
import optax

from blomix import BilevelProblem, Mixup
from blomix.bilevel import adamw
from blomix.encoders import Encoder
from blomix.hypergradient import (
    ConjugateGradient,
    Exact,
    FiniteDifference,
    FirstOrder,
    Neumann,
    Reverse,
    Truncated,
)

# layers, hidden, heads
SHAPES = {
    "minilm": (6, 384, 12),
    "bert-base": (12, 768, 12),
    "bert-large": (24, 1024, 16),
}

# The optimizers of the inner steps.
INNER = {"adamw": adamw(2e-5, weight_decay=0.01), "sgd": optax.sgd(2e-5)}

LOOKAHEAD = "exact, lookahead"
ESTIMATORS = {
    "exact": Exact(),
    LOOKAHEAD: Exact(),
    "exact, residuals kept": Exact(residuals="keep"),
    "reverse": Reverse(),
    "finite difference": FiniteDifference(),
    "first order": FirstOrder(),
    "truncated": Truncated(),
    "neumann": Neumann(),
    "conjugate gradient": ConjugateGradient(),
}


def encoder(
    shape: str,
    *,
    remat: bool,
    scan: bool = True,
    dtype: str = "float32",
    abstract: bool = True,
) -> Encoder:
    layers, hidden, heads = SHAPES[shape]
    config = {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    options = {"remat": remat, "scan_layers": scan, "dtype": dtype, "abstract": abstract}
    return Encoder.from_config(config, 2, **options)


def loss_of(model: Encoder):
    def loss(params, batch, key):
        logits = model.apply(params, batch, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]).mean()

    return loss


def problem_of(model: Encoder, steps: int, estimator, inner: str = "adamw", **options):
    mixup = Mixup(where=model.is_mixed, init=(0.9, 0.005))
    return BilevelProblem(
        loss_of(model), mixup, INNER[inner], unroll=steps, hypergradient=estimator, **options
    )


def plain_step(model: Encoder, inner: str = "adamw"):
    """A finetune step of the unmixed model, to compare with."""
    optimizer = INNER[inner]
    loss = loss_of(model)

    def step(params, state, batch, key):
        value, gradient = jax.value_and_grad(loss)(params, batch, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    return step, optimizer.init


def batch_shape(*lead: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Token batches of shape `lead`, its last axis the tokens of an example."""
    whole = jax.ShapeDtypeStruct(lead, jnp.int32)
    labels = jax.ShapeDtypeStruct(lead[:-1], jnp.int32)
    return {"input_ids": whole, "attention_mask": whole, "labels": labels}


def memory(compiled) -> dict[str, int]:
    """Bytes by kind, as the compiler planned them."""
    m = compiled.memory_analysis()
    return {
        "temporaries": m.temp_size_in_bytes,
        "arguments": m.argument_size_in_bytes,
        "outputs": m.output_size_in_bytes,
        "aliased": m.alias_size_in_bytes,
    }
