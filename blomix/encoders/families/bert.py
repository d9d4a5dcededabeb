"""BERT (Devlin et al., 2019, arXiv:1810.04805); MiniLM checkpoints are BERT too."""

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.family import Family
from blomix.encoders.layers import ACTIVATIONS
from blomix.encoders.options import Dropout


def architecture(config: ConfigReader) -> Architecture:
    config.must_be("position_embedding_type", "absolute", "no other positions are supported")
    config.must_be("is_decoder", False, "an encoder is needed")
    hidden = config.rate("hidden_dropout_prob", 0.1)
    return Architecture(
        vocab_size=config.size("vocab_size"),
        hidden_size=config.size("hidden_size"),
        embedding_size=config.size("hidden_size"),
        num_layers=config.size("num_hidden_layers", maximum=1000),
        num_heads=config.heads("num_attention_heads", "hidden_size"),
        intermediate_size=config.size("intermediate_size"),
        max_positions=config.size("max_position_embeddings", 512),
        type_vocab_size=config.size("type_vocab_size", 2, minimum=0),
        activation=config.choice("hidden_act", tuple(ACTIVATIONS), "gelu"),
        norm_epsilon=config.number("layer_norm_eps", 1e-12),
        initializer_range=config.number("initializer_range", 0.02),
        pad_token_id=config.size("pad_token_id", 0, minimum=0),
        dropout=Dropout.of(
            embedding=hidden,
            attention=config.rate("attention_probs_dropout_prob", 0.1),
            attention_output=hidden,
            feed_forward=hidden,
            classifier=config.rate("classifier_dropout", hidden),
        ),
    )


LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward_in": "intermediate.dense",
    "feed_forward_out": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def trunk(prefix: str, layer: dict[str, str] = LAYER) -> dict[str, str]:
    """The names of BERT's embeddings and layers, where a model puts `prefix` before them."""
    return {
        "embeddings.token": f"{prefix}embeddings.word_embeddings",
        "embeddings.position": f"{prefix}embeddings.position_embeddings",
        "embeddings.token_type": f"{prefix}embeddings.token_type_embeddings",
        "embeddings.norm": f"{prefix}embeddings.LayerNorm",
        **{f"layers.{{}}.{k}": f"{prefix}encoder.layer.{{}}.{v}" for k, v in layer.items()},
    }


BERT = Family(
    architecture=architecture,
    keys={**trunk("bert."), "pooler": "bert.pooler.dense", "head": "classifier"},
    prefix="bert.",
    base="BertModel",
    classifier="BertForSequenceClassification",
    pretrained_pooler=True,
)
