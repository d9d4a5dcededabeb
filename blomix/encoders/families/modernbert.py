"""ModernBERT (Warner et al., 2024, arXiv:2412.13663).

LayerNorm before each part of a layer (none in the first), rotary positions (Su et al., 2021,
arXiv:2104.09864), gated feed-forward, and attention to a window of tokens in most layers.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.family import Family
from blomix.encoders.functions import dropout
from blomix.encoders.layers import (
    ACTIVATIONS,
    Block,
    Embeddings,
    attend,
    dense,
    layer_norm,
    split,
)
from blomix.encoders.options import Dropout

_FULL, _WINDOW = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class ModernBertArchitecture(Architecture):
    """`kinds` of attention by layer; a window reaches `reach` tokens to each side."""

    kinds: tuple[str, ...] = ()
    reach: int = 64
    full_theta: float = 160_000.0
    window_theta: float = 10_000.0
    attention_bias: bool = False
    feed_forward_bias: bool = False


def architecture(config: ConfigReader) -> ModernBertArchitecture:
    layers = config.size("num_hidden_layers", maximum=1000)
    hidden = config.size("hidden_size")
    scale = config.number("initializer_range", 0.02)
    attention = config.rate("attention_dropout", 0.0)
    config.must_be("rope_scaling", None, "no scaled positions are supported")
    heads = config.heads("num_attention_heads", "hidden_size")
    if hidden // heads % 2:  # rotary positions turn pairs of features
        raise config.wrong("num_attention_heads", "heads of an even size", heads)
    full_theta, window_theta = (_theta(config, kind) for kind in (_FULL, _WINDOW))
    return ModernBertArchitecture(
        vocab_size=config.size("vocab_size"),
        hidden_size=hidden,
        embedding_size=hidden,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=config.size("intermediate_size"),
        max_positions=config.size("max_position_embeddings", 8192),
        position_table=False,
        activation=config.choice("hidden_activation", tuple(ACTIVATIONS), "gelu"),
        norm_epsilon=config.number("norm_eps", 1e-5),
        norm_bias=config.flag("norm_bias", False),
        initializer_range=scale,
        head_scale=hidden**-0.5,
        pooler_scale=scale / (2 * layers) ** 0.5,
        pad_token_id=config.size("pad_token_id", 50283, minimum=0),
        final_norm=True,
        pooler_input=config.choice("classifier_pooling", ("cls", "mean"), "cls"),
        pooler_activation=config.choice("classifier_activation", tuple(ACTIVATIONS), "gelu"),
        pooler_bias=config.flag("classifier_bias", False),
        pooler_norm=True,
        kinds=_kinds(config, layers),
        reach=config.size("sliding_window", config.size("local_attention", 128) // 2, minimum=0),
        full_theta=full_theta,
        window_theta=window_theta,
        attention_bias=config.flag("attention_bias", False),
        feed_forward_bias=config.flag("mlp_bias", False),
        dropout=Dropout.of(
            embedding=config.rate("embedding_dropout", 0.0),
            attention=attention,
            attention_output=attention,
            activation=config.rate("mlp_dropout", 0.0),
            classifier=config.rate("classifier_dropout", 0.0),
        ),
    )


def _kinds(config: ConfigReader, layers: int) -> tuple[str, ...]:
    """`layer_types`, or every n-th layer in full as older configs say it."""
    kinds = config.config.get("layer_types")
    if kinds is None:
        every = config.size("global_attn_every_n_layers", 3)
        return tuple(_WINDOW if i % every else _FULL for i in range(layers))
    known = isinstance(kinds, list) and all(kind in (_FULL, _WINDOW) for kind in kinds)
    if not known or len(kinds) != layers:
        raise config.wrong("layer_types", f"{layers} of {_FULL} or {_WINDOW}", kinds)
    return tuple(kinds)


def _theta(config: ConfigReader, kind: str) -> float:
    """The base of the rotary frequencies: in `rope_parameters`, or as older configs say it."""
    old, default = {
        _FULL: ("global_rope_theta", 160_000.0),
        _WINDOW: ("local_rope_theta", 10_000.0),
    }[kind]
    all_kinds = config.config.get("rope_parameters") or {}
    own = all_kinds.get(kind) or {} if isinstance(all_kinds, dict) else None
    if not isinstance(own, dict):
        raise config.wrong("rope_parameters", "an object of each kind of attention", all_kinds)
    reader = ConfigReader(own, f"{config.where}: rope_parameters: {kind}")
    reader.must_be("rope_type", "default", "no scaled positions are supported")
    return reader.number("rope_theta", config.number(old, default))


def rotate(x: jax.Array, theta: float) -> jax.Array:
    """Rotary positions: the halves of a head's features are turned by position * frequency."""
    half = x.shape[-1] // 2
    frequency = 1.0 / theta ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = (jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequency)[None, :, None, :]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half].astype(cos.dtype), x[..., half:].astype(cos.dtype)
    turned = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


class ModernBertEmbeddings(Embeddings):
    """Embeddings whose context has the additive scores of each kind of attention."""

    architecture: ModernBertArchitecture

    def context(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        full = super().context(batch)
        place = jnp.arange(batch["input_ids"].shape[1])
        near = jnp.abs(place[:, None] - place[None, :]) <= self.architecture.reach
        lowest = jnp.asarray(jnp.finfo(self.options.dtype).min, full.dtype)
        return {_FULL: full, _WINDOW: jnp.where(near, full, lowest)}


class ModernBertBlock(Block):
    """A layer with LayerNorm before each part, and a gate in the feed-forward."""

    architecture: ModernBertArchitecture

    @nn.compact
    def __call__(self, x: jax.Array, context: Any, key: jax.Array | None) -> jax.Array:
        a, options = self.architecture, self.options
        keys = split(key, 3)
        normed = x if self.layer == 0 else layer_norm("attention_norm", a, options)(x)
        out = self.attention(normed, context, keys[0]).reshape(x.shape)
        out = dense(a.hidden_size, "attention_output", options, use_bias=a.attention_bias)(out)
        x = x + dropout(out, a.dropout.attention_output, keys[1])
        normed = layer_norm("feed_forward_norm", a, options)(x)

        def wide(name: str) -> jax.Array:
            bias = a.feed_forward_bias
            return dense(a.intermediate_size, name, options, use_bias=bias)(normed)

        out = ACTIVATIONS[a.activation](wide("feed_forward_in")) * wide("feed_forward_gate")
        out = dropout(out, a.dropout.activation, keys[2])
        return x + dense(a.hidden_size, "feed_forward_out", options, use_bias=a.feed_forward_bias)(
            out
        )

    def attention(self, x: jax.Array, context: Any, key: jax.Array | None) -> jax.Array:
        a = self.architecture
        kind = a.kinds[self.layer]
        theta = a.full_theta if kind == _FULL else a.window_theta
        bias = a.attention_bias
        query, key_, value = (self.heads(name, bias)(x) for name in ("query", "key", "value"))
        query, key_ = rotate(query, theta), rotate(key_, theta)
        return attend(query, key_, value, context[kind], a.dropout.attention, key, self.options)


_LAYER = {
    "attention_norm": "attn_norm",
    "query": "attn.Wqkv#0/3",
    "key": "attn.Wqkv#1/3",
    "value": "attn.Wqkv#2/3",
    "attention_output": "attn.Wo",
    "feed_forward_norm": "mlp_norm",
    "feed_forward_in": "mlp.Wi#0/2",
    "feed_forward_gate": "mlp.Wi#1/2",
    "feed_forward_out": "mlp.Wo",
}

MODERNBERT = Family(
    architecture=architecture,
    keys={
        "embeddings.token": "model.embeddings.tok_embeddings",
        "embeddings.norm": "model.embeddings.norm",
        **{f"layers.{{}}.{ours}": f"model.layers.{{}}.{theirs}" for ours, theirs in _LAYER.items()},
        "final_norm": "model.final_norm",
        "pooler": "head.dense",
        "pooler_norm": "head.norm",
        "head": "classifier",
    },
    prefix="model.",
    base="ModernBertModel",
    classifier="ModernBertForSequenceClassification",
    pretrained_pooler=True,
    embeddings=ModernBertEmbeddings,
    block=ModernBertBlock,
    uniform_layers=False,
)
