"""BART (Lewis et al., 2020, arXiv:1910.13461): an encoder and a decoder over the same text.

The decoder reads the text shifted right by one token, attends to what came before and to the
encoder's output; its state at the last end-of-text token is what the head classifies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.family import Family
from blomix.encoders.functions import dropout
from blomix.encoders.layers import (
    ACTIVATIONS,
    Block,
    Embeddings,
    Table,
    attend,
    layer_norm,
    split,
)
from blomix.encoders.model import Batch, Model, Params, apply
from blomix.encoders.options import Dropout
from blomix.encoders.rows import split_look_up
from blomix.errors import InputError

_OFFSET = 2  # the first two rows of the position tables are never used


@dataclass(frozen=True)
class BartArchitecture(Architecture):
    """The encoder's sizes; `decoder` has those of the decoder."""

    decoder: Architecture = field(kw_only=True)
    end_token_id: int = 2
    start_token_id: int = 2

    @property
    def longest(self) -> int:
        return self.max_positions - _OFFSET


def architecture(config: ConfigReader) -> BartArchitecture:
    config.must_be("scale_embedding", False, "as in the published models")
    rate = config.rate("dropout", 0.1)
    classifier = config.rate("classifier_dropout", 0.0)
    shared: dict[str, Any] = {
        "vocab_size": config.size("vocab_size"),
        "hidden_size": config.size("d_model"),
        "embedding_size": config.size("d_model"),
        "max_positions": config.size("max_position_embeddings", 1024) + _OFFSET,
        "activation": config.choice("activation_function", tuple(ACTIVATIONS), "gelu"),
        "norm_epsilon": 1e-5,
        "initializer_range": config.number("init_std", 0.02),
        "pad_token_id": config.size("pad_token_id", 1, minimum=0),
        "dropout": Dropout.of(
            embedding=rate,
            attention=config.rate("attention_dropout", 0.0),
            attention_output=rate,
            activation=config.rate("activation_dropout", 0.0),
            feed_forward=rate,
            pooler_input=classifier,
            classifier=classifier,
        ),
    }

    def own(side: str) -> dict[str, Any]:
        return {
            "num_layers": config.size(f"{side}_layers", maximum=1000),
            "num_heads": config.heads(f"{side}_attention_heads", "d_model"),
            "intermediate_size": config.size(f"{side}_ffn_dim"),
        }

    return BartArchitecture(
        **shared,
        **own("encoder"),
        decoder=Architecture(**shared, **own("decoder")),
        end_token_id=config.size("eos_token_id", 2, minimum=0),
        start_token_id=config.size("decoder_start_token_id", 2, minimum=0),
        pooler_input="end",
    )


class BartEmbeddings(Embeddings):
    """Embeddings with the unused rows of the position table skipped."""

    def positions(self, ids: jax.Array) -> jax.Array:
        return jnp.arange(ids.shape[1])[None, :] + _OFFSET


class DecoderEmbeddings(BartEmbeddings):
    """Position rows added to the tokens' rows, which the encoder's table gave."""

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        a = self.architecture
        x += self.table(a.max_positions, "position")(self.positions(x[..., 0]))
        return dropout(layer_norm("norm", a, self.options)(x), a.dropout.embedding, key)


class DecoderBlock(Block):
    """A layer that attends to earlier tokens, then to the encoder's output."""

    @nn.compact
    def __call__(self, x: jax.Array, context: Any, key: jax.Array | None) -> jax.Array:
        keys = split(key, 6)
        x = self.join(x, self.attention(x, context["earlier"], keys[0]), "attention", keys[1])
        query = self.heads("cross_query")(x)
        key_, value = (
            self.heads(name)(context["encoded"]) for name in ("cross_key", "cross_value")
        )
        rate = self.architecture.dropout.attention
        found = attend(query, key_, value, context["scores"], rate, keys[2], self.options)
        x = self.join(x, found, "cross", keys[3])
        return self.feed_forward(x, keys[4], keys[5])


class BartModel(Model):
    """A model whose states are the encoder's, then the decoder's."""

    architecture: BartArchitecture

    @property
    def parts(self) -> tuple[str, ...]:
        return (*super().parts, "decoder_embeddings", "decoder_layers")

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().check(arrays)
        end = self.architecture.end_token_id
        without = np.flatnonzero(~(arrays["input_ids"] == end).any(axis=1))
        if len(without):
            raise InputError(
                f"input_ids: expected the end-of-text token {end} (eos_token_id) in each row, for "
                f"its state is what the head sees; the tokenizer gave none in row {without[0]}"
            )

    def token(self, x: jax.Array, inputs: Batch) -> jax.Array:
        """The state at the last end-of-text token."""
        ends = inputs["input_ids"] == self.architecture.end_token_id
        last = jnp.max(jnp.where(ends, jnp.arange(ends.shape[1]), 0), axis=1)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]

    def states(self, params: Params, inputs: Batch, key, noise=None) -> list[jax.Array]:
        encoder, first, rest = split(key, 3)
        encoded = super().states(params, inputs, encoder, noise)
        a, options, ids = self.architecture, self.options, inputs["input_ids"]
        start = jnp.full_like(ids[:, :1], a.start_token_id)
        tokens, positions = params["embeddings"]["token"], params["decoder_embeddings"]
        if not options.train_embeddings:
            tokens, positions = jax.lax.stop_gradient((tokens, positions))
        table = Table(a.vocab_size, a.hidden_size, options)
        shifted = jnp.concatenate([start, ids[:, :-1]], axis=1)
        x = split_look_up(lambda ids: apply(table, tokens, ids), shifted)
        x = apply(self.module("decoder_embeddings"), positions, x, first)
        scores = BartEmbeddings(a, options).context(inputs)
        place = jnp.arange(ids.shape[1])
        hidden = jnp.asarray(jnp.finfo(options.dtype).min, scores.dtype)
        earlier = jnp.where(place[:, None] >= place[None, :], jnp.zeros_like(hidden), hidden)
        context = {"encoded": encoded[-1], "scores": scores, "earlier": earlier[None, None]}
        return encoded + self.run("decoder_layers", params, x, context, rest)

    def order(self, part: str) -> tuple[int, ...]:
        a = self.architecture
        return (a.decoder if part == "decoder_layers" else a).layer_of_step

    def module(self, part: str, layer: int = 0) -> nn.Module:
        if part == "decoder_embeddings":
            return DecoderEmbeddings(self.architecture, self.options)
        if part == "decoder_layers":
            return DecoderBlock(self.architecture.decoder, self.options, layer)
        return super().module(part, layer)

    def example(self, part: str) -> tuple[Any, ...]:
        if not part.startswith("decoder"):
            return super().example(part)
        x, scores, _ = super().example("layers")
        context = {"encoded": x, "scores": scores, "earlier": scores}
        return (x, None) if part == "decoder_embeddings" else (x, context, None)


_LAYER = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "attention_output": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "feed_forward_in": "fc1",
    "feed_forward_out": "fc2",
    "feed_forward_norm": "final_layer_norm",
}
_CROSS = {
    "cross_query": "encoder_attn.q_proj",
    "cross_key": "encoder_attn.k_proj",
    "cross_value": "encoder_attn.v_proj",
    "cross_output": "encoder_attn.out_proj",
    "cross_norm": "encoder_attn_layer_norm",
}

BART = Family(
    architecture=architecture,
    keys={
        "embeddings.token": "model.shared",
        "embeddings.position": "model.encoder.embed_positions",
        "embeddings.norm": "model.encoder.layernorm_embedding",
        **{f"layers.{{}}.{k}": f"model.encoder.layers.{{}}.{v}" for k, v in _LAYER.items()},
        "decoder_embeddings.position": "model.decoder.embed_positions",
        "decoder_embeddings.norm": "model.decoder.layernorm_embedding",
        **{
            f"decoder_layers.{{}}.{k}": f"model.decoder.layers.{{}}.{v}"
            for k, v in (_LAYER | _CROSS).items()
        },
        "pooler": "classification_head.dense",
        "head": "classification_head.out_proj",
    },
    prefix="model.",
    base="BartModel",
    classifier="BartForSequenceClassification",
    pretrained_pooler=False,
    embeddings=BartEmbeddings,
    model=BartModel,
)
