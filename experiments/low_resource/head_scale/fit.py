"""How well does the probe fit its examples, before anything is trained?

python -m experiments.low_resource.head_scale.fit --model MODEL --data DATA
"""

import argparse
from itertools import groupby
from pathlib import Path

import numpy as np

from blomix.bench import read_study
from blomix.bench.jobs import Workshop
from blomix.evaluation import metrics
from blomix.recipe.job import Job, task_loss
from blomix.recipe.probe import fit_probe


def main() -> None:
    parser = argparse.ArgumentParser(description="How well does the probe fit its examples?")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()

    study = read_study(Path(__file__).parent)
    workshop = Workshop(study, options.model, options.data)
    cells = [cell for cell in study.cells() if cell.variant.name == "scale_1"]
    for task, own in groupby(cells, key=lambda cell: cell.task.name):
        accuracy, loss = np.mean([fit(workshop.job(cell)) for cell in own], axis=0)
        print(f"{task}: accuracy {accuracy:.3f}, loss {loss:.3f}")


def fit(job: Job) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of the probe on the examples that it is fitted on."""
    weights, bias = fit_probe(job)
    logits, labels = job.features @ weights + bias, job.train.targets
    accuracy = metrics.evaluate("accuracy", labels, logits)["score"]
    return accuracy, float(task_loss(logits, labels, regression=False))


if __name__ == "__main__":
    main()
