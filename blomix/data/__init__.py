"""Files and named data sets -> examples -> token arrays; splits; stateless batch order."""

from blomix.data.batches import batch_rows, encode
from blomix.data.coerce import examples_of
from blomix.data.examples import Examples, digest_of, duplicates, leakage
from blomix.data.load import load, read_columns
from blomix.data.output import check_output, write_columns
from blomix.data.remarks import cut_remarks, empty_remarks, leak_remarks, reading, remarks
from blomix.data.splits import folds, holdout, subsample
from blomix.data.tasks import TASKS, Task

__all__ = [
    "TASKS",
    "Examples",
    "Task",
    "batch_rows",
    "check_output",
    "cut_remarks",
    "digest_of",
    "duplicates",
    "empty_remarks",
    "encode",
    "examples_of",
    "folds",
    "holdout",
    "leak_remarks",
    "leakage",
    "load",
    "read_columns",
    "reading",
    "remarks",
    "subsample",
    "write_columns",
]
