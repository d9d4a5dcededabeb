"""ELECTRA's discriminator (Clark et al., 2020, arXiv:2003.10555).

BERT's encoder with narrower embeddings, and a head of two linear layers with GELU between.
"""

from dataclasses import replace

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.families import bert
from blomix.encoders.family import Family


def architecture(config: ConfigReader) -> Architecture:
    base = bert.architecture(config)
    embedding_size = config.size("embedding_size", 128)
    return replace(
        base,
        embedding_size=embedding_size,
        project_embeddings=embedding_size != base.hidden_size,
        pooler_activation="gelu",
        dropout=base.dropout.also(pooler_input=base.dropout.classifier),
    )


ELECTRA = Family(
    architecture=architecture,
    keys={
        **bert.trunk("electra."),
        "embeddings.projection": "electra.embeddings_project",
        "pooler": "classifier.dense",
        "head": "classifier.out_proj",
    },
    prefix="electra.",
    base="ElectraModel",
    classifier="ElectraForSequenceClassification",
    pretrained_pooler=False,
)
