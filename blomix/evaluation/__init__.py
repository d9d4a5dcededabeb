"""Scores of predictions, and statistics over seeds and tasks."""

from blomix.evaluation.metrics import evaluate, expected_calibration_error, majority

__all__ = ["evaluate", "expected_calibration_error", "majority"]
