"""Run directories with a known story, written as a finished run writes them."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from blomix.evaluation import evaluate, majority
from tests.report.summaries import summary

KINDS = ("query", "key", "value", "attention output", "feed-forward in", "feed-forward out")
HIDDEN = 24


def write_run(
    path: Path,
    method: str = "blomix",
    seed: int = 0,
    labels: tuple[str, ...] = ("unacceptable", "acceptable"),
    n: int = 300,
    skill: float = 1.2,
    layers: int = 6,
    folds: int = 5,
    steps: int = 45,
    low_share: float = 0.6,
    texts: list[str] | None = None,
    leaked: int = 0,
) -> Path:
    """A run of `method`. `skill` moves the right logit up; labels=() makes it a regression."""
    path.mkdir(parents=True)
    rng = np.random.default_rng([7, seed, len(method)])
    truth = np.random.default_rng(1)  # the scored examples are the same for all runs
    if labels:
        y = truth.choice(len(labels), size=n, p=_shares(len(labels)))
        logits = rng.normal(size=(n, len(labels)))
        logits[np.arange(n), y] += skill
        train = truth.choice(len(labels), size=200, p=_shares(len(labels)))
        balance = dict(zip(labels, np.bincount(train, minlength=len(labels)).tolist(), strict=True))
        metric = "mcc"
    else:
        y = truth.uniform(0, 5, n)
        logits = (y + rng.normal(scale=2 / (skill + 0.5), size=n))[:, None]
        train = truth.uniform(0, 5, 200)
        balance = {"min": 0.0, "mean": 2.5, "median": 2.5, "max": 5.0}
        metric = "spearman"
    texts = texts or [f"Example {i} of a sentence that someone has judged." for i in range(n)]
    shown = [labels[i] for i in y] if labels else y.tolist()
    decided = [labels[i] for i in logits.argmax(1)] if labels else logits[:, 0].tolist()
    _write_lines(
        path / "validation.jsonl",
        [
            {"text": texts[i % len(texts)], "pair": None, "label": shown[i]}
            | {"predicted": decided[i], "logits": logits[i].tolist()}
            for i in range(n)
        ],
    )
    rows = [f"{i:016x}" for i in range(200)]
    split = {"inner": rows[40:], "outer": rows[:40]}
    has_folds = method == "blomix"
    _write(
        path / "splits.json",
        {
            "train": rows,
            "validation": [f"{i:016x}" for i in range(1000, 1000 + n)],
            "balance": {"train": balance, "validation": balance}
            | ({"folds": [{"inner": balance, "outer": balance}] * folds} if has_folds else {}),
            "duplicates": {
                "train": {"rows": 2, "conflicting_texts": 0},
                "validation": {"rows": 0, "conflicting_texts": 0},
            },
            "leakage": {"rows": leaked, "texts": leaked, "conflicting": 0},
        }
        | ({"folds": [split] * folds} if has_folds else {}),
    )
    matrices, shares = [], {}
    for layer in range(layers):
        for i, kind in enumerate(KINDS):
            name = f"layers/{layer}/{kind.replace(' ', '_')}/kernel"
            matrix = {"path": name, "layer": layer, "matrix": kind, "weights": HIDDEN**2}
            matrix["change"] = 0.002 * (1 + layer) * (1 + 0.2 * i)
            if has_folds:
                level = 1 - (1 - low_share) * (layers - layer) / layers * (0.5 + 0.1 * i)
                share = np.outer(rng.uniform(0.95, 1.0, HIDDEN), np.full(HIDDEN, level)).astype(
                    np.float32
                )
                shares[name] = share
                matrix |= {
                    "share": float(share.mean()),
                    "share_min": float(share.min()),
                    "share_max": float(share.max()),
                }
            matrices.append(matrix)
    history, metrics = [], []
    for lane in range(folds if has_folds else 0):
        for step in range(steps):
            done = step / steps
            record = {
                "phase": "search",
                "lane": lane,
                "step": step,
                "inner_loss": 0.7 * np.exp(-2 * done) + 0.02 * rng.normal(),
                "outer_loss": 0.7 * np.exp(-1.5 * done) + 0.05 + 0.04 * rng.normal(),
                "gradient_norm": 2 + rng.random(),
                "hypergradient_norm": 0.02 + 0.01 * rng.random(),
                "shares": [
                    1 - (1 - float(share.mean())) * done + 0.004 * rng.normal()
                    for share in shares.values()
                ],
            }
            metrics.append(record)
            history.append({k: record[k] for k in ("lane", "step", "shares")})
    for step in range(57):
        loss = 0.6 * np.exp(-3 * step / 57) + 0.03 * rng.random()
        record = {"phase": "finetune", "lane": 0, "step": step, "loss": loss, "gradient_norm": 0.8}
        metrics.append(record)
    _write_lines(path / "metrics.jsonl", metrics)
    _write(
        path / "alpha.json",
        {"matrices": matrices, "searched": list(shares), "history": history},
    )
    if shares:
        save_file(shares, path / "shares.safetensors")
    recipe = {"epochs": 3.0, "batch_size": 16, "learning_rate": 1e-4, "warmup": 0.1, "clip": 1.0}
    if has_folds:
        recipe |= {"folds": folds, "search_learning_rate": 1e-4, "outer_learning_rate": 2e-3}
        recipe |= {"unroll": 1, "search_clip": 5.0, "search_epochs": 3.0}
    scores = evaluate(metric, y, logits)
    found = summary(
        method=method,
        seed=seed,
        labels=list(labels),
        metric=metric,
        recipe=recipe,
        score=scores[metric],
        metrics=scores,
        majority_score=majority(metric, train, y),
        validation_size=n,
        train_size=200,
        run_dir=str(path),
        gradient_evaluations=957.0 if has_folds else 57.0,
    )
    _write(path / "result.json", found)
    (path / "config.toml").write_text(
        f'model = "minilm"\n[resolved]\nmethod = "{method}"\nseed = {seed}\n'
    )
    _write(
        path / "env.json",
        {
            "python": "3.11.2",
            "machine": "x86_64",
            "versions": {"blomix": "0.1.0", "jax": "0.10.2"},
            "devices": ["cpu: cpu"],
            "xla_flags": "",
            "commit": "0123456789abcdef",
        },
    )
    _write_lines(
        path / "audit.jsonl", [{"time": "2026-01-02T03:04:05Z", "event": "begun", "pid": 1}]
    )
    return path


def _shares(classes: int) -> np.ndarray:
    """The first class the most common."""
    weights = np.linspace(2, 1, classes)
    return weights / weights.sum()


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False))


def _write_lines(path: Path, values: list[dict]) -> None:
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
