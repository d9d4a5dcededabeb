"""What the labels of a file are, as `--label-kind` tells it."""

from typing import Literal

LabelKind = Literal["auto", "classes", "values"]

# The kind as `blomix.data.load` takes it; None leaves it to the labels.
REGRESSION: dict[LabelKind, bool | None] = {"auto": None, "classes": False, "values": True}
