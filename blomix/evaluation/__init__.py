"""Scores of predictions; statistics over seeds and tasks; their tables and figures."""

from blomix.evaluation.metrics import evaluate, expected_calibration_error, majority
from blomix.evaluation.statistics import (
    Comparison,
    Summary,
    compare,
    holm,
    interquartile_interval,
    interquartile_mean,
    sign_flip_p,
    spread_ratio,
    summarize,
)

__all__ = [
    "Comparison",
    "Summary",
    "compare",
    "evaluate",
    "expected_calibration_error",
    "holm",
    "interquartile_interval",
    "interquartile_mean",
    "majority",
    "sign_flip_p",
    "spread_ratio",
    "summarize",
]
