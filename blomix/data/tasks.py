"""The nine GLUE tasks: class names in the hub's order, and the metric reported for each.

Wang et al., "GLUE", ICLR 2019; metrics as Somayajula et al. (NAACL 2024) report them.
"""

from dataclasses import dataclass

GLUE = "nyu-mll/glue"


@dataclass(frozen=True)
class Task:
    """`label_names` is None for a regression."""

    name: str
    label_names: tuple[str, ...] | None
    metric: str = "accuracy"


_ENTAILMENT = ("entailment", "not_entailment")

TASKS = {
    task.name: task
    for task in (
        Task("cola", ("unacceptable", "acceptable"), "mcc"),
        Task("sst2", ("negative", "positive")),
        Task("mrpc", ("not_equivalent", "equivalent"), "f1"),
        Task("qqp", ("not_duplicate", "duplicate")),
        Task("stsb", None, "spearman"),
        Task("mnli", ("entailment", "neutral", "contradiction")),
        Task("qnli", _ENTAILMENT),
        Task("rte", _ENTAILMENT),
        Task("wnli", ("not_entailment", "entailment")),
    )
}
