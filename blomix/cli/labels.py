"""What the labels of a file are and how they are scored, as `--label-kind` and `--metric` tell."""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from blomix.errors import InputError

if TYPE_CHECKING:
    from blomix.data import Examples

Metric = Literal["auto", "accuracy", "f1", "mcc", "pearson", "spearman"]
LabelKind = Literal["auto", "classes", "values"]

# The kind as `blomix.data.load` takes it; None leaves it to the labels.
REGRESSION: dict[LabelKind, bool | None] = {"auto": None, "classes": False, "values": True}


def scored_by(metric: Metric, examples: "Examples") -> "Examples":
    """The examples with that figure of merit; `auto` leaves them theirs.

    Raises:
      InputError: a metric of classes for values, or the reverse.
    """
    if metric == "auto":
        return examples
    from blomix.evaluation.metrics import REGRESSION as OF_VALUES

    _, *metrics = get_args(Metric)
    fitting = [name for name in metrics if (name in OF_VALUES) == examples.is_regression]
    if metric not in fitting:
        kind = "values" if examples.is_regression else "classes"
        raise InputError(
            f"--metric {metric}: the labels of {examples.name} are {kind}, which are scored by "
            f"{' or '.join(fitting)}"
        )
    return replace(examples, metric=metric)
