"""A result.json as a finished run writes it."""

from typing import Any


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "method": "blomix",
        "recipe": {"epochs": 3.0, "folds": 5, "learning_rate": 1e-4, "formula": "convex"},
        "seed": 7,
        "max_length": 64,
        "together": False,
        "metric": "mcc",
        "labels": ["unacceptable", "acceptable"],
        "train_size": 300,
        "data": "cola",
        "model": {"source": "/models/all-MiniLM-L6-v2", "pooling": "mean", "dtype": "float32"},
        "steps": 282,
        "gradient_evaluations": 957.0,
        "seconds": 12.5,
        "run_dir": "runs/cola",
        "score": 0.31,
        "majority_score": 0.0,
        "metrics": {"score": 0.31, "accuracy": 0.74, "f1": 0.82, "mcc": 0.31, "ece": 0.08},
        "intervals": {"accuracy": [0.71, 0.77], "f1": [0.8, 0.84], "mcc": [0.25, 0.37]},
        "pairs": False,
        "validation_size": 1043,
        "facts": {},
        "digests": {"train": "abc123", "validation": "def456"},
    } | changes
