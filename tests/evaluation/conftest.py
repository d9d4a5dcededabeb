"""Results as the benchmark writes them."""

import pytest


def _result(score, *, task="t", n=100, method="a", seed=0, majority=0.5, gradients=100):
    return {
        "task": task,
        "n": n,
        "method": method,
        "seed": seed,
        "metric": "accuracy",
        "score": score,
        "majority_score": majority,
        "steps": gradients,
        "gradient_evaluations": gradients,
        "seconds": 1.0,
    }


@pytest.fixture
def runs():
    """runs(scores, **fixed): a result for each score, seeds counted from 0."""

    def make(scores, **fixed):
        return [_result(score, seed=seed, **fixed) for seed, score in enumerate(scores)]

    return make
