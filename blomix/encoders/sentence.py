"""The sentence-transformers layout: which pooling a directory asks for, and a dense layer's logits.

Such a directory is a chain of modules. What is read from it: the pooling (first module of that
kind) and, where a linear layer without activation follows it directly, that layer as the head.
A Normalize module is left out: it scales the pooled vector to length 1 for cosine similarity,
and a linear head on it would start with features 1/sqrt(hidden) in size, so that usual learning
rates would hardly train it. What is exported is what is computed: without Normalize.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blomix.encoders.configuration import read_json, read_json_list
from blomix.encoders.options import POOLINGS
from blomix.errors import InputError

MODULES = "modules.json"
_IDENTITY = "torch.nn.modules.linear.Identity"
_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class SentenceModules:
    """Pooling modes in use (several are concatenated), and the directory of a linear head."""

    modes: tuple[str, ...] = ()
    dense: Path | None = None


def read_modules(directory: Path) -> SentenceModules:
    """What the directory's modules.json asks for; nothing where there is none."""
    if not (directory / MODULES).is_file():
        return SentenceModules()
    chain = read_json_list(directory / MODULES)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in chain]
    if "Pooling" not in kinds:
        return SentenceModules()
    at = kinds.index("Pooling")
    modes = _modes(read_json(_inside(directory, chain[at]) / "config.json"))
    if kinds[at + 1 : at + 2] != ["Dense"]:
        return SentenceModules(modes)
    dense = _inside(directory, chain[at + 1])
    linear = read_json(dense / "config.json").get("activation_function") == _IDENTITY
    return SentenceModules(modes, dense if linear else None)


def choose_pooling(pooling: str, modules: SentenceModules, where: str) -> str:
    """The pooling that `"auto"` stands for; any other choice as it is.

    Raises:
        InputError: the directory's own pooling is not one that is supported.
    """
    if pooling not in ("auto", *POOLINGS):
        raise InputError(f"pooling: expected auto, pooler, cls or mean, found {pooling!r}")
    if pooling != "auto":
        return pooling
    if not modules.modes:
        return "pooler"
    if modules.modes not in (("mean",), ("cls",)):
        raise InputError(
            f"{where}: expected pooling by mean or cls, found {' + '.join(modules.modes)}; "
            "choose pooling='mean', 'cls' or 'pooler'"
        )
    return modules.modes[0]


def layout(pooling: str, hidden: int, labels: int, max_tokens: int) -> dict[str, Any]:
    """The JSON files, by path, of a directory: transformer, pooling, dense layer of the logits."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    chain = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    modes = {entry: mode == pooling for entry, mode in _MODES.items()}
    return {
        MODULES: chain,
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": hidden, **modes},
        "2_Dense/config.json": {
            "in_features": hidden,
            "out_features": labels,
            "bias": True,
            "activation_function": _IDENTITY,
        },
    }


def _inside(directory: Path, module: dict[str, Any]) -> Path:
    name = str(module.get("path", ""))
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{directory / MODULES}: expected a path inside, found {name!r}")
    return directory / name


def _modes(config: dict[str, Any]) -> tuple[str, ...]:
    new = config.get("pooling_mode")
    if isinstance(new, str):
        return (new,)
    if isinstance(new, list):
        return tuple(str(mode) for mode in new)
    return tuple(mode for entry, mode in _MODES.items() if config.get(entry))
