"""The model card of an export: a README.md with the front matter that the hub reads."""

import json
from pathlib import PurePath
from typing import Any

from blomix.report.templates import environment
from blomix.report.text import markdown, visible
from blomix.report.verdict import NAMES

_METRICS = {name: words[0].upper() + words[1:] for name, words in NAMES.items()}
# Names the hub knows, where they differ from ours.
_HUB_METRICS = {"mcc": "matthews_correlation", "spearman": "spearmanr", "pearson": "pearsonr"}


def model_card(summary: dict[str, Any]) -> str:
    """Front matter and text of a model card from what result.json holds.

    The licence is left for the user to fill in: it depends on the base model and on the data.
    """
    encoder = summary["model"]
    labels = summary["labels"]
    sentence = encoder.get("pooling", "pooler") != "pooler"
    intervals = summary.get("intervals", {})
    metrics = [
        (_METRICS[name], value, intervals.get(name))
        for name, value in summary["metrics"].items()
        if name in _METRICS
    ]
    front = {
        "license": "unknown",
        "library_name": "sentence-transformers" if sentence else "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["blomix", "text-regression" if not labels else "text-classification"],
        # Only what came from the hub has a commit there; a folder may be named like a hub id.
        **({"base_model": encoder["source"]} if encoder.get("commit") else {}),
        "metrics": [_HUB_METRICS.get(summary["metric"], summary["metric"])],
        "model-index": [_index(summary)],
    }
    template = environment().get_template("card.md")
    return template.render(
        # JSON is YAML too, and its quoting leaves nothing to guess.
        front={key: json.dumps(value) for key, value in front.items()},
        base=markdown(base_model(summary)),
        encoder={name: markdown(encoder[name]) for name in ("pooling", "dtype") if name in encoder},
        method=markdown(summary["method"]),
        data=markdown(summary["data"]),
        labels=[markdown(label, 80) for label in labels],
        metric=_METRICS.get(summary["metric"], summary["metric"]),
        metrics=metrics,
        digests=summary["digests"],
        recipe=dict(sorted(summary["recipe"].items())),
        pooling=encoder.get("pooling", "pooler"),
        example='["a text", "its pair"]' if summary.get("pairs") else '"a text"',
        summary=summary,
    )


def base_model(summary: dict[str, Any]) -> str:
    """The pretrained encoder's hub id, or its folder's name without the way there."""
    source = summary["model"].get("source") or "an encoder of no recorded source"
    return PurePath(source).name if PurePath(source).is_absolute() else source


def _index(summary: dict[str, Any]) -> dict[str, Any]:
    """The hub's record of one evaluation."""
    data = visible(summary["data"], 80)
    name = _HUB_METRICS.get(summary["metric"], summary["metric"])
    return {
        "name": f"{visible(summary['method'], 80)} on {data}",
        "results": [
            {
                "task": {"type": "text-classification"},
                "dataset": {"type": data, "name": data, "split": "validation"},
                "metrics": [{"type": name, "value": summary["score"], "verified": False}],
            }
        ],
    }
