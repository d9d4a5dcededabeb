"""RoBERTa (Liu et al., 2019, arXiv:1907.11692) and its multilingual kin, XLM-R and CamemBERT.

BERT's encoder with positions that count real tokens alone, and a head of two linear layers.
"""

from dataclasses import replace

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.families import bert
from blomix.encoders.family import Family


def architecture(config: ConfigReader) -> Architecture:
    base = bert.architecture(config)
    return replace(
        base,
        pad_token_id=config.size("pad_token_id", 1, minimum=0),
        positions_skip_padding=True,
        dropout=base.dropout.also(pooler_input=base.dropout.classifier),
    )


def _family(name: str) -> Family:
    return Family(
        architecture=architecture,
        keys={
            **bert.trunk("roberta."),
            "pooler": "classifier.dense",
            "head": "classifier.out_proj",
        },
        prefix="roberta.",
        base=f"{name}Model",
        classifier=f"{name}ForSequenceClassification",
        pretrained_pooler=False,
    )


ROBERTA = _family("Roberta")
XLM_ROBERTA = _family("XLMRoberta")
CAMEMBERT = _family("Camembert")
