"""What a finished run leaves in its directory: splits, shares of task weight, predictions, export.

splits.json       row digests and label balance of every split and fold, duplicates, leakage
alpha.json        per mixed matrix: share of the task weight kept, effective change; history
shares.safetensors  the dense shares themselves, by the matrix' path, as they broadcast to it
validation.jsonl  one line an example of the scored split: text, label, prediction, logits
export/           the model, with a manifest
result.json       written last: a run is finished when it is there
"""

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from blomix import _trees
from blomix.data import Examples, duplicates, leakage
from blomix.recipe.folded import Folded
from blomix.recipe.job import Job
from blomix.recipe.phase import Fitted
from blomix.recipe.result import Result
from blomix.recipe.training import Training
from blomix.runs.files import storage

if TYPE_CHECKING:
    from blomix.encoders import Encoder
    from blomix.runs import Run


def write(
    run: "Run",
    job: Job,
    fitted: Fitted,
    validation: Examples,
    logits: np.ndarray,
    result: Result,
) -> None:
    """Writes all but splits.json; `logits` are those of the validation examples."""
    from safetensors.numpy import save

    run.write_json("alpha.json", alpha_record(job.encoder, fitted, run.records()))
    if fitted.shares:
        run.write_bytes("shares.safetensors", save(job.encoder.by_layer(fitted.shares)))
    run.write_lines("validation.jsonl", predictions(validation, result, logits))
    # A session that was killed in its last moments may have left one, or a part of one.
    for left in (run.path / "export", *run.path.glob(".export-*")):
        shutil.rmtree(left, ignore_errors=True)
    with storage(run.path / "export", "write"):
        result.save_pretrained(run.path / "export")
    run.write_json("result.json", result.summary)


def splits_record(job: Job, method: Training, validation: Examples) -> dict[str, Any]:
    """Row digests and label balance of every split and fold; repeats within and between splits."""
    splits = {"train": job.train, "validation": validation}
    if job.held is not None:
        splits["held"] = job.held
    record: dict[str, Any] = {name: list(split.digests) for name, split in splits.items()}
    balances: dict[str, Any] = {name: balance(split) for name, split in splits.items()}
    record["balance"] = balances
    record["duplicates"] = {name: duplicates(split) for name, split in splits.items()}
    record["leakage"] = leakage(job.train, validation)
    if isinstance(method, Folded):
        folds = [
            {"inner": job.train.select(inner), "outer": job.train.select(outer)}
            for inner, outer in method.splits(job)
        ]
        record["folds"] = [{k: list(v.digests) for k, v in fold.items()} for fold in folds]
        balances["folds"] = [{k: balance(v) for k, v in fold.items()} for fold in folds]
    return record


def balance(examples: Examples) -> dict[str, float]:
    """Rows a label; of a regression the least, mean, median and largest value."""
    labels = np.asarray(examples.labels)
    if examples.label_names is None:
        figures = {"min": np.min, "mean": np.mean, "median": np.median, "max": np.max}
        return {name: float(figure(labels)) for name, figure in figures.items()}
    counts = np.bincount(labels, minlength=len(examples.label_names))
    return dict(zip(examples.label_names, counts.tolist(), strict=True))


def alpha_record(model: "Encoder", fitted: Fitted, records: list[dict]) -> dict[str, Any]:
    """Per matrix: layer, plain name, share of the task weight kept, effective change; and history.

    The effective change of a matrix is `|W~ - W0| / |W0|` in the Frobenius norm. The shares of a
    line of history are in the order of `searched`.
    """
    final = mixable(model, fitted.params)
    shares = model.by_layer(fitted.shares)
    matrices = []
    for path, pretrained in mixable(model).items():
        share = shares.get(path)
        matrices.append(
            {
                "path": path,
                "layer": model.layer_of(path.split("/")),
                "matrix": model.matrix_of(path.split("/")),
                "weights": pretrained.size,
                "change": _relative_change(final[path], pretrained),
            }
            | ({} if share is None else _spread(share))
        )
    history = [
        {"lane": record["lane"], "step": record["step"], "shares": record["shares"]}
        for record in records
        if "shares" in record
    ]
    return {"matrices": matrices, "searched": list(shares), "history": history}


def mixable(model: "Encoder", params: Any = None) -> dict[str, np.ndarray]:
    """The matrices that the recipe mixes, of `params` or of the pretrained weights, by path."""
    leaves = _trees.by_path(model.params if params is None else params).items()
    mixed = {path: np.asarray(leaf) for path, leaf in leaves if model.is_mixed(path.split("/"))}
    return model.by_layer(mixed)


def predictions(validation: Examples, result: Result, logits: np.ndarray) -> list[dict]:
    """One record an example of the scored split."""
    pairs = validation.pairs or [None] * len(validation)
    rows = zip(validation.texts, pairs, result.decide(logits), logits.tolist(), strict=True)
    return [
        {
            "text": text,
            "pair": pair,
            "label": validation.label(row),
            "predicted": predicted,
            "logits": values,
        }
        for row, (text, pair, predicted, values) in enumerate(rows)
    ]


def _spread(share: np.ndarray) -> dict[str, float]:
    return {
        "share": float(share.mean()),
        "share_min": float(share.min()),
        "share_max": float(share.max()),
    }


def _relative_change(final: np.ndarray, pretrained: np.ndarray) -> float:
    return float(np.linalg.norm(final - pretrained) / np.linalg.norm(pretrained))
