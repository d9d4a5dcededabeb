"""MPNet (Song et al., 2020, arXiv:2004.09297): BERT's layers with relative attention scores.

One table, shared by all layers, holds a score for each head and each bucket of distances.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.families import bert
from blomix.encoders.family import Family
from blomix.encoders.layers import Embeddings, Table

BUCKETS = 32
_FARTHEST = 128


def architecture(config: ConfigReader) -> Architecture:
    config.must_be("relative_attention_num_buckets", BUCKETS, "torch's model assumes it")
    base = bert.architecture(config)
    rate = config.rate("hidden_dropout_prob", 0.1)
    return replace(
        base,
        type_vocab_size=0,
        pad_token_id=1,  # torch's model fixes it, whatever the config says
        positions_skip_padding=True,
        dropout=base.dropout.also(pooler_input=rate, classifier=rate),
    )


def bucket(distance: jax.Array) -> jax.Array:
    """The bucket in [0, 32) of a distance key - query, in tokens.

    Each direction has 16: one for each distance below 8, then logarithmic steps up to 128
    (Raffel et al., 2020, arXiv:1910.10683, section 2.1).
    """
    half = BUCKETS // 2
    exact = half // 2
    size = jnp.abs(distance)
    steps = jnp.log(jnp.maximum(size, 1) / exact) / math.log(_FARTHEST / exact) * (half - exact)
    far = jnp.minimum(exact + steps.astype(distance.dtype), half - 1)
    return jnp.where(size < exact, size, far) + jnp.where(distance > 0, half, 0)


class RelativeEmbeddings(Embeddings):
    """Embeddings whose context adds the relative scores: (B, heads, S, S)."""

    def context(self, batch: dict[str, jax.Array]) -> jax.Array:
        a = self.architecture
        place = jnp.arange(batch["input_ids"].shape[1])
        table = Table(BUCKETS, a.num_heads, self.options, name="relative")
        scores = table(bucket(place[None, :] - place[:, None]))
        masked = super().context(batch)
        return masked + jnp.moveaxis(scores, -1, 0).astype(masked.dtype)


_LAYER = {
    **bert.LAYER,
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attention_output": "attention.attn.o",
    "attention_norm": "attention.LayerNorm",
}

MPNET = Family(
    architecture=architecture,
    keys={
        **bert.trunk("mpnet.", _LAYER),
        "embeddings.relative": "mpnet.encoder.relative_attention_bias",
        "pooler": "classifier.dense",
        "head": "classifier.out_proj",
    },
    prefix="mpnet.",
    base="MPNetModel",
    classifier="MPNetForSequenceClassification",
    pretrained_pooler=False,
    embeddings=RelativeEmbeddings,
)
