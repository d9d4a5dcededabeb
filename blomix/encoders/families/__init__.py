"""The families of encoders by the `model_type` of their config.json."""

from collections.abc import Mapping
from typing import Any

from blomix.encoders.families.albert import ALBERT
from blomix.encoders.families.bart import BART
from blomix.encoders.families.bert import BERT
from blomix.encoders.families.deberta import DEBERTA_V2
from blomix.encoders.families.distilbert import DISTILBERT
from blomix.encoders.families.electra import ELECTRA
from blomix.encoders.families.modernbert import MODERNBERT
from blomix.encoders.families.mpnet import MPNET
from blomix.encoders.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA
from blomix.encoders.family import Family
from blomix.errors import InputError

FAMILIES: dict[str, Family] = {
    "albert": ALBERT,
    "bart": BART,
    "bert": BERT,
    "camembert": CAMEMBERT,
    "deberta-v2": DEBERTA_V2,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
}


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """The family of a config.

    Raises:
        InputError: the config names no `model_type`, or one that is not supported.
    """
    name = config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        supported = ", ".join(sorted(FAMILIES))
        raise InputError(f"{where}: model_type: expected one of {supported}; found {name!r}")
    return FAMILIES[name]
