"""Which matrices moved and which kept to their pretrained weights: map, ranking, profiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blomix.errors import InputError
from blomix.report.reading import RunRecord

# As data flow through a layer.
_ORDER = ("query", "key", "value", "attention output", "feed-forward in", "feed-forward out")
_MOST = 8  # matrices that the ranking names
_EACH = {
    "full": "each weight",
    "rank1": "each row and column of each matrix",
    "row": "each row of each matrix",
    "column": "each column of each matrix",
    "matrix": "each matrix",
    "layer": "each layer",
}
_POINTS = 96  # of a profile; longer ones are averaged down
_ENDS = 5  # rows and columns that a profile names


@dataclass(frozen=True, eq=False)
class Grid:
    """Values by layer (first axis, the layer nearest the text first) and by kind of matrix.

    A cell without a matrix is nan. `others` are the matrices outside the layers, by name.
    """

    layers: tuple[int, ...]
    kinds: tuple[str, ...]
    values: np.ndarray
    others: dict[str, float]


@dataclass(frozen=True)
class Profile:
    """Mean share of the task weight along one axis of a matrix: `points` for drawing, and which
    entries have the least and the most."""

    axis: str
    length: int
    points: tuple[float, ...]
    least: tuple[tuple[int, float], ...]
    most: tuple[tuple[int, float], ...]


def grid(matrices: Sequence[dict[str, Any]], key: str) -> Grid:
    """`key` ("share" or "change") of every matrix that has it."""
    inside = [m for m in matrices if m["layer"] is not None and key in m]
    layers = sorted({m["layer"] for m in inside})
    kinds = sorted({m["matrix"] for m in inside}, key=_place)
    values = np.full((len(layers), len(kinds)), np.nan)
    for m in inside:
        values[layers.index(m["layer"]), kinds.index(m["matrix"])] = m[key]
    others = {m["matrix"]: m[key] for m in matrices if m["layer"] is None and key in m}
    return Grid(tuple(layers), tuple(kinds), values, others)


def in_order(matrices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """From the layer nearest the text, within a layer as data flow; those outside layers last."""
    return sorted(
        matrices, key=lambda m: (m["layer"] is None, m["layer"] or 0, _place(m["matrix"]))
    )


def _place(kind: str) -> tuple[int, str]:
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind)


def name_of(matrix: dict[str, Any]) -> str:
    """As a person says it. Layers count from 1, the one nearest the text."""
    if matrix["layer"] is None:
        return matrix["matrix"]
    return f"layer {matrix['layer'] + 1}, {matrix['matrix']}"


def ranking(matrices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The matrices that changed most, the largest change first."""
    order = sorted(matrices, key=lambda m: -m["change"])[:_MOST]
    return [{"name": name_of(m)} | m for m in order]


def origin(run: RunRecord) -> str:
    """What a share is, and where this run's come from."""
    if not run.has_shares:
        return (
            "This run's method has no shares: every weight is a task weight, and only the change "
            "can be shown."
        )
    kept = "(1 − share) × pretrained weight"
    if _product_of_complements(run):
        kept = (
            "a product of complements × pretrained weight, (1 − row) (1 − column), as the released "
            "code has it: the two do not add up to 1"
        )
    whole = f"Every matrix of the final model is a mixture: share × task weight + {kept}."
    each = _EACH.get(run.settings.get("granularity", "rank1"), "each part")
    how = {
        "random_alpha": f"was drawn at random for {each}, and not learned",
        "joint": f"was learned for {each} by the loss, and on the data, that trained the task "
        "weights",
    }.get(
        run.method,
        f"was learned for {each} on data that the task weights of its fold were not trained on",
    )
    return f"{whole} The share {how}."


def _product_of_complements(run: RunRecord) -> bool:
    return run.settings.get("formula") == "released"


def sentences(run: RunRecord) -> list[str]:
    """What the map shows, in words."""
    matrices = run.matrices
    if not matrices:
        return []
    order = sorted(matrices, key=lambda m: m["change"])
    least, most = order[0], order[-1]
    found = [
        f"The matrix that changed most is {name_of(most)}, by {most['change']:.2%} of its size; "
        f"{name_of(least)} changed least, by {least['change']:.2%}.",
        *_halves(matrices),
        *_kinds(matrices),
    ]
    shared = [m for m in matrices if "share" in m]
    if shared:
        low, high = min(m["share"] for m in shared), max(m["share"] for m in shared)
        lowest = name_of(min(shared, key=lambda m: m["share"]))
        kept = f": the pretrained weights kept at most {1 - low:.1%} of a matrix ({lowest})"
        if _product_of_complements(run):
            kept = f", the lowest in {lowest}"
        found.append(f"Mean shares of the task weight lie between {low:.3f} and {high:.3f}{kept}.")
        if low > 0.98:
            found.append(
                "So alpha has hardly anchored anything: differences between the matrices come from "
                "training, not from the learned shares."
            )
    return found


def profiles(run: RunRecord) -> dict[str, list[Profile]]:
    """Rows and columns of each matrix whose share varies along them, by the matrix' path."""
    shares = run.path / "shares.safetensors"
    found: dict[str, list[Profile]] = {}
    if not shares.is_file():
        return found
    for path, share in _arrays(shares):
        stacked = share.reshape(-1, *share.shape[-2:]).mean(0) if share.ndim > 2 else share
        axes = (("row", 1), ("column", 0)) if stacked.ndim == 2 else ()
        own = [_profile(name, stacked.mean(axis)) for name, axis in axes]
        if own := [profile for profile in own if profile.length > 1]:
            found[path] = own
    return found


def _arrays(path: Path):
    from safetensors import SafetensorError, safe_open  # one array in memory at a time

    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118, it is no mapping
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def _profile(axis: str, means: np.ndarray) -> Profile:
    order = np.argsort(means, kind="stable")
    bins = np.array_split(means, min(_POINTS, len(means)))
    return Profile(
        axis=axis,
        length=len(means),
        points=tuple(float(part.mean()) for part in bins),
        least=tuple((int(i), float(means[i])) for i in order[:_ENDS]),
        most=tuple((int(i), float(means[i])) for i in order[::-1][:_ENDS]),
    )


def _halves(matrices: Sequence[dict[str, Any]]) -> list[str]:
    inside = [m for m in matrices if m["layer"] is not None]
    layers = sorted({m["layer"] for m in inside})
    if len(layers) < 2:
        return []
    lower = set(layers[: len(layers) // 2])
    near = np.mean([m["change"] for m in inside if m["layer"] in lower])
    far = np.mean([m["change"] for m in inside if m["layer"] not in lower])
    if near == 0 or far == 0:
        return []
    if 0.9 < far / near < 1.1:
        return ["The upper and the lower half of the layers changed about equally."]
    first, ratio = ("upper", far / near) if far > near else ("lower", near / far)
    other = "lower" if first == "upper" else "upper"
    return [f"The {first} half of the layers changed {ratio:.1f} times as much as the {other}."]


def _kinds(matrices: Sequence[dict[str, Any]]) -> list[str]:
    kinds: dict[str, list[float]] = {}
    for m in matrices:
        if m["layer"] is not None:
            kinds.setdefault(m["matrix"], []).append(m["change"])
    if len(kinds) < 2:
        return []
    means = {kind: float(np.mean(values)) for kind, values in kinds.items()}
    most, least = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return [
        f"Over all layers, “{most}” changed most ({means[most]:.2%} on average) and “{least}” "
        f"least ({means[least]:.2%})."
    ]
