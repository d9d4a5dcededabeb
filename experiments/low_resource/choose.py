"""Writes chosen.toml: each variant's learning rate with the best mean score on the tuning tasks.

A variant is left out that has not run, at each of its rates, on every task and seed that another
has.

Command: python experiments/low_resource/choose.py [STUDY]; it reads the cells of STUDY/tuning
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

HERE = Path(__file__).parent


Cells = dict[tuple[float, str, int], float]  # (rate, task, seed) -> score


def scores(results: Path) -> dict[str, Cells]:
    """The cells of each variant; one with an error counts as the majority class."""
    found: dict[str, Cells] = defaultdict(dict)
    for path in sorted(results.glob("*@learning_rate=*/*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        variant, _, rate = record["method"].partition("@learning_rate=")
        score = record["majority_score"] if record["score"] is None else record["score"]
        found[variant][float(rate), record["task"], record["seed"]] = score
    return found


def main(study: Path) -> None:
    lines = ["# Written by choose.py from the tuning study."]
    found = scores(study / "tuning" / "results")
    draws = {(task, seed) for cells in found.values() for _, task, seed in cells}
    for variant, cells in sorted(found.items()):
        rates = sorted({rate for rate, _, _ in cells})
        wanted = len(rates) * len(draws)
        if len(cells) < wanted:
            print(f"# {variant}: {len(cells)} of {wanted} cells, not chosen")
            continue
        means = {rate: mean(x for at, x in cells.items() if at[0] == rate) for rate in rates}
        best = max(means, key=lambda rate: means[rate])
        edge = " (at the edge of the grid)" if best in (min(means), max(means)) else ""
        table = ", ".join(f"{rate:g}: {value:.4f}" for rate, value in means.items())
        lines += ["", f"[{variant}]", f"learning_rate = {best!r}  # {table}{edge}"]
    (study / "chosen.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
