"""A study of which every cell gives several named scores: its command line, files and tables."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blomix.bench import read_study
from blomix.bench.jobs import Workshop
from blomix.bench.runner import Bench
from blomix.bench.study import Cell
from blomix.evaluation import metrics, tables
from blomix.recipe.job import predict_logits
from blomix.runs import files


def run(
    folder: Path, scores_of: Callable[[Workshop, Cell], dict[str, float]], against: str, about: str
) -> None:
    """Writes results/TASK-SEED.json for each cell of the study in `folder`, keeps those that are
    there, and prints the mean of each score and its paired gain over the one named `against`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=folder / "results")
    options = parser.parse_args()

    study = read_study(folder)
    bench = Bench(Workshop(study, options.model, options.data), options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for cell in study.cells():
        path = options.out / f"{cell.task.name}-{cell.seed}.json"
        if not path.exists():
            record = bench.describe(cell) | {"scores": scores_of(bench.workshop, cell)}
            files.write_json(path, record)
            print(path.name, json.dumps(record["scores"]), flush=True)
        results += _as_results(json.loads(path.read_text(encoding="utf-8")))
    print(tables.markdown(tables.method_rows(results)))
    print(tables.markdown(tables.comparison_rows(results, against)))


def score(workshop: Workshop, cell: Cell, params: Any) -> float:
    """The metric of the cell's task on its scored rows, of a model of these weights."""
    _, scored = workshop.examples(cell.task)
    encoder = workshop.encoder(cell.task, cell.variant)
    logits = predict_logits(encoder, params, workshop.scored_arrays(cell))
    return metrics.evaluate(scored.metric, scored.targets, logits)["score"]


def _as_results(record: dict) -> list[dict]:
    """A result for each score, as `blomix.evaluation` takes them."""
    costs = {"steps": 0, "gradient_evaluations": 0, "seconds": 0}
    return [record | costs | {"method": name, "score": x} for name, x in record["scores"].items()]
