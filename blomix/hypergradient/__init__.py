"""d outer loss / d alpha: the exact one, and its rivals behind the same switch."""

from blomix.hypergradient.exact import Exact
from blomix.hypergradient.finite_difference import FiniteDifference
from blomix.hypergradient.implicit import ConjugateGradient, Neumann
from blomix.hypergradient.truncated import FirstOrder, Truncated
from blomix.hypergradient.unrolled import Estimator, Outcome, Record, Reverse, Setting

__all__ = [
    "ESTIMATORS",
    "ConjugateGradient",
    "Estimator",
    "Exact",
    "FiniteDifference",
    "FirstOrder",
    "Neumann",
    "Outcome",
    "Record",
    "Reverse",
    "Setting",
    "Truncated",
]

# What `BilevelProblem(hypergradient=...)` accepts as a string.
ESTIMATORS: dict[str, Estimator] = {
    "exact": Exact(),
    "reverse": Reverse(),
    "finite_difference": FiniteDifference(),
    "first_order": FirstOrder(),
    "neumann": Neumann(),
    "conjugate_gradient": ConjugateGradient(),
    "truncated": Truncated(),
}
