"""Which columns a finished run's commands read: those it was trained on, unless told others."""

from collections.abc import Mapping
from typing import Any


def columns_of(
    summary: Mapping[str, Any], text: str | None, text_pair: str | None, label: str | None = None
) -> dict[str, Any]:
    """`text`, `text_pair` and `label` as `blomix.data.load` takes them.

    What is None is as the run of this `result.json` read it, if it read a file; a text and its pair
    are told together.
    """
    read = summary.get("columns") or {}
    if text is None and text_pair is None:
        text, text_pair = read.get("text"), read.get("pair")
    return {"text": text, "text_pair": text_pair, "label": label or read.get("label")}
