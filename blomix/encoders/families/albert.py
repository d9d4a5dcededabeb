"""ALBERT (Lan et al., 2020, arXiv:1909.11942): layers share weights, embeddings are narrower."""

from dataclasses import replace

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.families import bert
from blomix.encoders.family import Family
from blomix.encoders.layers import ACTIVATIONS
from blomix.encoders.options import Dropout


def architecture(config: ConfigReader) -> Architecture:
    config.must_be("inner_group_num", 1, "no published model has another")
    base = bert.architecture(config)
    groups = config.size("num_hidden_groups", 1, maximum=base.num_layers)
    hidden = config.rate("hidden_dropout_prob", 0.0)
    return replace(
        base,
        embedding_size=config.size("embedding_size", 128),
        project_embeddings=True,
        activation=config.choice("hidden_act", tuple(ACTIVATIONS), "gelu_new"),
        # With torch's rounding, which for odd numbers differs from that of whole ones.
        layer_of_step=tuple(int(i / (base.num_layers / groups)) for i in range(base.num_layers)),
        dropout=Dropout.of(
            embedding=hidden,
            attention=config.rate("attention_probs_dropout_prob", 0.0),
            attention_output=hidden,
            classifier=config.rate("classifier_dropout_prob", 0.1),
        ),
    )


_LAYER = {
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "attention_output": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "feed_forward_in": "ffn",
    "feed_forward_out": "ffn_output",
    "feed_forward_norm": "full_layer_layer_norm",
}
_GROUP = "albert.encoder.albert_layer_groups.{}.albert_layers.0."

ALBERT = Family(
    architecture=architecture,
    keys={
        **{k: v for k, v in bert.trunk("albert.").items() if k.startswith("embeddings.")},
        "embeddings.projection": "albert.encoder.embedding_hidden_mapping_in",
        **{f"layers.{{}}.{ours}": _GROUP + theirs for ours, theirs in _LAYER.items()},
        "pooler": "albert.pooler",
        "head": "classifier",
    },
    prefix="albert.",
    base="AlbertModel",
    classifier="AlbertForSequenceClassification",
    pretrained_pooler=True,
)
