"""Scores an export with torch and compares with the run's own score.

Command: python experiments/torch_parity/score.py RUN ... (needs torch; for mean pooling also
sentence-transformers)
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from blomix.evaluation import metrics
from blomix.runs.files import read_lines

BATCH = 64


def main(runs: list[str]):
    print(f"{'run':<32}{'loader':<36}{'blomix':>9}{'torch':>9}{'largest logit difference':>26}")
    for run in map(Path, runs):
        summary = json.loads((run / "result.json").read_text())
        rows = read_lines(run / "validation.jsonl")
        mean = (run / "export" / "modules.json").exists()
        logits = (sentence_logits if mean else sequence_logits)(run / "export", rows, summary)
        labels = [row["label"] for row in rows]
        if summary["labels"]:
            labels = [summary["labels"].index(label) for label in labels]
        score = metrics.evaluate(summary["metric"], np.array(labels), logits)["score"]
        apart = np.abs(logits - np.array([row["logits"] for row in rows])).max()
        loader = "SentenceTransformer" if mean else "AutoModelForSequenceClassification"
        print(f"{run.name:<32}{loader:<36}{summary['score']:>9.5f}{score:>9.5f}{apart:>26.1e}")


def texts_of(rows: list[dict]) -> list:
    return [row["text"] if row["pair"] is None else (row["text"], row["pair"]) for row in rows]


@torch.no_grad()
def sequence_logits(export: Path, rows: list[dict], summary: dict) -> np.ndarray:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(export).eval()
    tokenizer = AutoTokenizer.from_pretrained(export)
    outputs = []
    for first in range(0, len(rows), BATCH):
        batch = texts_of(rows[first : first + BATCH])
        parts = zip(*batch, strict=True) if isinstance(batch[0], tuple) else [batch]
        tokens = tokenizer(
            *map(list, parts),
            truncation=True,
            max_length=summary["max_length"],
            padding=True,
            return_tensors="pt",
        )
        outputs.append(model(**tokens).logits.numpy())
    return np.concatenate(outputs)


def sentence_logits(export: Path, rows: list[dict], summary: dict) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(export), device="cpu")
    model.max_seq_length = summary["max_length"]
    return model.encode(texts_of(rows), batch_size=BATCH, show_progress_bar=False)


main(sys.argv[1:])
