"""Which columns a finished run's commands read: those it was trained on, unless told others."""

from pathlib import Path
from typing import Any

from blomix.cli.entry import read_toml


def columns_of(
    run: Path, text: str | None, text_pair: str | None, label: str | None = None
) -> dict[str, Any]:
    """`text`, `text_pair` and `label` as `blomix.data.load` takes them.

    What is None is as `blomix finetune` was told; a text and its pair are told together.
    """
    told = read_toml(run / "config.toml")
    if text is None and text_pair is None:
        text, text_pair = told.get("text"), told.get("text_pair")
    return {"text": text, "text_pair": text_pair, "label": label or told.get("label")}
