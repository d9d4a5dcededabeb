"""Writes chosen.toml: each variant's learning rate with the best mean score on the tuning tasks.

Command: python experiments/low_resource/choose.py [RESULTS_OF_TUNING]
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

HERE = Path(__file__).parent


def scores(results: Path) -> dict[str, dict[float, list[float]]]:
    """Variant -> rate -> scores; a failed cell counts as the majority class."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(results.glob("*@learning_rate=*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        variant, _, rate = record["method"].partition("@learning_rate=")
        score = record["majority_score"] if record["score"] is None else record["score"]
        found[variant][float(rate)].append(score)
    return found


def main(results: Path) -> None:
    lines = ["# Written by choose.py from the tuning study."]
    for variant, rates in sorted(scores(results).items()):
        means = {rate: mean(values) for rate, values in sorted(rates.items())}
        best = max(means, key=lambda rate: means[rate])
        edge = " (at the edge of the grid)" if best in (min(means), max(means)) else ""
        table = ", ".join(f"{rate:g}: {value:.4f}" for rate, value in means.items())
        lines += ["", f"[{variant}]", f"learning_rate = {best!r}  # {table}{edge}"]
    (HERE / "chosen.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "tuning" / "results")
