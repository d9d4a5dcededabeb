"""How well does the probe fit its examples, before anything is trained?

python -m experiments.low_resource.head_scale.fit --model MODEL --data DATA
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from blomix.bench import read_study
from blomix.bench.jobs import Workshop
from blomix.evaluation import metrics
from blomix.recipe.probe import fit_probe


@dataclass(frozen=True)
class Config:
    model: str
    """Directory of a pretrained encoder."""
    data: Path = Path("../shared/data")
    """Folder that has a folder a task."""


def main(config: Config) -> None:
    study = read_study(Path(__file__).parent)
    workshop = Workshop(study, config.model, config.data)
    cells = [cell for cell in study.cells() if cell.variant.name == "scale_1"]
    for task in study.tasks:
        accuracies, losses = [], []
        for cell in cells:
            if cell.task == task:
                job = workshop.job(cell)
                weights, bias = fit_probe(job)
                logits, labels = job.features @ weights + bias, job.train.targets
                accuracies.append(metrics.evaluate("accuracy", labels, logits)["score"])
                top = logits.max(1, keepdims=True)
                log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(1))
                losses.append(float((log_sum - logits[np.arange(len(labels)), labels]).mean()))
        print(f"{task.name}: accuracy {np.mean(accuracies):.3f}, loss {np.mean(losses):.3f}")


if __name__ == "__main__":
    main(tyro.cli(Config))
