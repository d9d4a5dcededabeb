"""DeBERTa v2 and v3 (He et al., 2021, arXiv:2006.03654 and arXiv:2111.09543).

BERT's layers with disentangled attention: the score of query i and key j at the bucketed distance
d(i, j) is the sum of content-to-content, content-to-position and position-to-content products,

    (q_i . k_j + q_i . K r_d(i,j) + k_j . Q r_-d(j,i)) / sqrt(3 size),

where r are relative embeddings, one table for all layers, and Q, K the layer's own projections.
"""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.families import bert
from blomix.encoders.family import Family
from blomix.encoders.functions import dropout
from blomix.encoders.layers import (
    ACTIVATIONS,
    Block,
    Embeddings,
    Table,
    attend,
    layer_norm,
)


@dataclass(frozen=True)
class DebertaArchitecture(Architecture):
    """`buckets` on each side of 0 for distances up to `farthest` tokens; 0 buckets: one each."""

    buckets: int = 0
    farthest: int = 512
    content_to_position: bool = True
    position_to_content: bool = True
    normed_positions: bool = True

    @property
    def span(self) -> int:
        return self.buckets or self.farthest


def architecture(config: ConfigReader) -> DebertaArchitecture:
    for name in ("relative_attention", "share_att_key"):
        why = "the published v2 and v3 models have it, and where it is absent it is False"
        config.must_be(name, True, why, absent=False)
    config.must_be("conv_kernel_size", 0, "the convolution of v2-xlarge is not supported")
    config.must_be("embedding_size", config.size("hidden_size"), "as in the published models")
    base = bert.architecture(config)
    farthest = config.size("max_relative_positions", -1, minimum=-1)
    kinds = config.names("pos_att_type")
    rates = base.dropout.also(
        relative=base.dropout.embedding,
        pooler_input=config.rate("pooler_dropout", 0.0),
        classifier=config.rate("cls_dropout", base.dropout.embedding),
    )
    own = {
        "type_vocab_size": config.size("type_vocab_size", 0, minimum=0),
        "norm_epsilon": config.number("layer_norm_eps", 1e-7),
        "position_table": config.flag("position_biased_input", True),
        "pooler_activation": config.choice("pooler_hidden_act", tuple(ACTIVATIONS), "gelu"),
        "dropout": rates,
    }
    shared = {field.name: getattr(base, field.name) for field in fields(base)}
    buckets = max(config.size("position_buckets", -1, minimum=-1), 0)
    if buckets == 1:
        raise config.wrong("position_buckets", "none (-1) or at least 2", buckets)
    return DebertaArchitecture(
        **{**shared, **own},
        buckets=buckets,
        farthest=farthest if farthest > 0 else base.max_positions,
        content_to_position="c2p" in kinds,
        position_to_content="p2c" in kinds,
        normed_positions="layer_norm" in config.names("norm_rel_ebd"),
    )


def relative_rows(length: int, a: DebertaArchitecture) -> np.ndarray:
    """The row (S, S) of the relative table for query i and key j: near distances have their own.

    With buckets, distances beyond half of them share logarithmic ones (float32, as torch's).
    """
    place = np.arange(length)
    distance = place[:, None] - place[None, :]
    if a.buckets:
        middle = a.buckets // 2
        size = np.maximum(np.abs(distance), middle).astype(np.float32)
        steps = np.log(size / middle) / np.log(np.float32((a.farthest - 1) / middle))
        far = np.ceil(steps * (middle - 1)).astype(int) + middle
        distance = np.where(np.abs(distance) <= middle, distance, np.sign(distance) * far)
    return np.clip(distance + a.span, 0, 2 * a.span - 1)


class DebertaEmbeddings(Embeddings):
    """Embeddings that blank padding, and whose context holds the relative table too."""

    architecture: DebertaArchitecture

    def blank(self, x: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        return x * (batch["attention_mask"] > 0)[..., None].astype(x.dtype)

    def context(self, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """`scores` (B, 1, S, S), masked for padding as query too; `relative` (2 span, H)."""
        a = self.architecture
        keys = super().context(batch)
        scores = jnp.minimum(keys, jnp.swapaxes(keys, -1, -2))
        table = Table(2 * a.span, a.hidden_size, self.options, name="relative")
        relative = table(jnp.arange(2 * a.span))
        if a.normed_positions:
            relative = layer_norm("relative_norm", a, self.options)(relative)
        return {"scores": scores, "relative": relative}


class DebertaBlock(Block):
    """A layer with disentangled attention."""

    architecture: DebertaArchitecture

    def attention(self, x: jax.Array, context: Any, key: jax.Array | None) -> jax.Array:
        a = self.architecture
        to_query, to_key, to_value = (self.heads(name) for name in ("query", "key", "value"))
        parts = 1 + a.content_to_position + a.position_to_content
        query, key_ = to_query(x) * parts**-0.5, to_key(x)
        keys = (None, None) if key is None else jax.random.split(key)
        relative = dropout(context["relative"], a.dropout.relative, keys[0])
        rows = relative_rows(x.shape[1], a)
        extra = jnp.zeros((), x.dtype)
        if a.content_to_position:
            every = jnp.einsum("bqhd,rhd->bhqr", query, to_key(relative))
            extra += jnp.take_along_axis(every, rows[None, None], axis=-1)
        if a.position_to_content:
            every = jnp.einsum("bkhd,rhd->bhkr", key_, to_query(relative) * parts**-0.5)
            # d(i, j) = -d(j, i), so the row for key j and query i is that of query i and key j.
            extra += jnp.swapaxes(jnp.take_along_axis(every, rows.T[None, None], axis=-1), -1, -2)
        bias = context["scores"] + (extra * query.shape[-1] ** -0.5).astype(context["scores"].dtype)
        rate = a.dropout.attention
        return attend(query, key_, to_value(x), bias, rate, keys[1], self.options)


_LAYER = {
    **bert.LAYER,
    "query": "attention.self.query_proj",
    "key": "attention.self.key_proj",
    "value": "attention.self.value_proj",
}

DEBERTA_V2 = Family(
    architecture=architecture,
    keys={
        **bert.trunk("deberta.", _LAYER),
        "embeddings.relative": "deberta.encoder.rel_embeddings",
        "embeddings.relative_norm": "deberta.encoder.LayerNorm",
        "pooler": "pooler.dense",
        "head": "classifier",
    },
    prefix="deberta.",
    base="DebertaV2Model",
    classifier="DebertaV2ForSequenceClassification",
    pretrained_pooler=False,
    embeddings=DebertaEmbeddings,
    block=DebertaBlock,
)
