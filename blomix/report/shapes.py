"""What the files of a finished run must look like for a report to be made of them."""

from typing import Any

# A shape is a type or several; a list of one shape, of every item; a mapping, of the entries that
# must be there (that may be, where a question mark ends the name), under ANY of all others.
ANY = object()
NUMBER = (int, float)
MAYBE = (int, float, type(None))
TEXT = (str, type(None))

RESULT = {
    "method": str,
    "metric": str,
    "score": NUMBER,
    "majority_score": NUMBER,
    "labels": [str],
    "recipe": {"epochs": NUMBER, "batch_size": int, ANY: (*MAYBE, str)}
    | {f"{name}?": NUMBER for name in ("learning_rate", "search_learning_rate")}
    | {f"{name}?": NUMBER for name in ("outer_learning_rate", "unroll", "warmup")}
    | {f"{name}?": NUMBER for name in ("clip", "search_clip")},
    "seed": int,
    "data": str,
    "model": {"source?": TEXT, ANY: object},
    "train_size": int,
    "validation_size": int,
    "steps": int,
    "seconds": NUMBER,
    "gradient_evaluations": NUMBER,
    "metrics": {ANY: NUMBER},
}
ENVIRONMENT = {"versions": {ANY: TEXT}, "python": str, "devices": [str]}
_BALANCE = {ANY: NUMBER}
_FOLDS, _BALANCES = ([{"inner": part, "outer": part}] for part in ([str], _BALANCE))
SPLITS = {
    "train": [str],
    "validation": [str],
    "held?": [str],
    "folds?": _FOLDS,
    "balance": {
        "train": _BALANCE,
        "validation": _BALANCE,
        "held?": _BALANCE,
        "folds?": _BALANCES,
    },
    "duplicates": {ANY: {"rows": int, "conflicting_texts": int}},
    "leakage": {"rows": int, "texts": int, "conflicting": int},
}
ALPHA = {
    "matrices": [
        {"path": str, "layer": (int, type(None)), "matrix": str, "weights": int, "change": NUMBER}
        | {"share?": NUMBER, "share_min?": NUMBER, "share_max?": NUMBER}
    ],
    "searched": [str],
    "history": [{"lane": int, "step": int, "shares": [NUMBER]}],
}
_DRAWN = ("loss", "inner_loss", "outer_loss", "gradient_norm", "hypergradient_norm")
METRICS = [
    {"phase": str, "lane": int, "step": int, ANY: (*MAYBE, list)}
    | {f"{name}?": MAYBE for name in _DRAWN}
]
AUDIT = [{"time": str, "event": str}]
_LABEL = (str, int, float)
PREDICTIONS = [
    {"text": str, "pair": TEXT, "label": _LABEL, "predicted": _LABEL, "logits": [NUMBER]}
]


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """Where `value` is not of `shape`, and what is expected there; None where it fits."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} to be a list" if where else "a list"
        found = (misfit(item, shape[0], f"{where}[{i}]") for i, item in enumerate(value))
        return next((line for line in found if line), None)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            wanted = f"an object with {', '.join(_names(shape))}"
            return f"{where} to be {wanted}" if where else wanted
        if missing := [name for name in _names(shape) if name not in value]:
            return f"{where + ': ' if where else ''}an object with {', '.join(missing)}"
        parts = {name.rstrip("?"): part for name, part in shape.items() if name is not ANY}
        found = (
            misfit(item, parts.get(name, shape.get(ANY, object)), f"{where}.{name}".lstrip("."))
            for name, item in value.items()
        )
        return next((line for line in found if line), None)
    return None if isinstance(value, shape) else f"{where} to be {_kind(shape)}"


def _names(shape: dict) -> list[str]:
    return [name for name in shape if name is not ANY and not name.endswith("?")]


def _kind(shape: type | tuple[type, ...]) -> str:
    kinds = shape if isinstance(shape, tuple) else (shape,)
    return " or ".join(kind.__name__ for kind in kinds)
