"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108): no token types, no dropout after attention."""

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.family import Family
from blomix.encoders.layers import ACTIVATIONS
from blomix.encoders.options import Dropout


def architecture(config: ConfigReader) -> Architecture:
    rate = config.rate("dropout", 0.1)
    return Architecture(
        vocab_size=config.size("vocab_size"),
        hidden_size=config.size("dim"),
        embedding_size=config.size("dim"),
        num_layers=config.size("n_layers", maximum=1000),
        num_heads=config.heads("n_heads", "dim"),
        intermediate_size=config.size("hidden_dim"),
        max_positions=config.size("max_position_embeddings", 512),
        activation=config.choice("activation", tuple(ACTIVATIONS), "gelu"),
        initializer_range=config.number("initializer_range", 0.02),
        pad_token_id=config.size("pad_token_id", 0, minimum=0),
        pooler_activation="relu",
        dropout=Dropout.of(
            embedding=rate,
            attention=config.rate("attention_dropout", 0.1),
            feed_forward=rate,
            classifier=config.rate("seq_classif_dropout", 0.2),
        ),
    )


_LAYER = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention_output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "feed_forward_in": "ffn.lin1",
    "feed_forward_out": "ffn.lin2",
    "feed_forward_norm": "output_layer_norm",
}

DISTILBERT = Family(
    architecture=architecture,
    keys={
        "embeddings.token": "distilbert.embeddings.word_embeddings",
        "embeddings.position": "distilbert.embeddings.position_embeddings",
        "embeddings.norm": "distilbert.embeddings.LayerNorm",
        **{f"layers.{{}}.{k}": f"distilbert.transformer.layer.{{}}.{v}" for k, v in _LAYER.items()},
        "pooler": "pre_classifier",
        "head": "classifier",
    },
    prefix="distilbert.",
    base="DistilBertModel",
    classifier="DistilBertForSequenceClassification",
    pretrained_pooler=False,
)
