"""d outer loss / d alpha: the exact one, and its rivals behind the same switch."""

from blomix.hypergradient.unrolled import Estimate, Estimator, Exact, Record, Reverse, Setting

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "Exact", "Record", "Reverse", "Setting"]

# What `BilevelProblem(hypergradient=...)` accepts as a string.
ESTIMATORS: dict[str, Estimator] = {"exact": Exact(), "reverse": Reverse()}
