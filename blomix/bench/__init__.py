"""Studies: a grid of tasks, sizes, methods and seeds, one JSON file a cell."""

from blomix.bench.study import Study, read_study

__all__ = ["Study", "read_study"]
