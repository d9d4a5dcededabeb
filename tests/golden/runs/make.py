"""Keep what the report reads of finished runs, without their texts.

    python tests/golden/runs/make.py NAME=RUN_DIR ...

writes NAME.json.gz beside this file: the run's files as JSON, every letter of a scored text an x,
numbers of the logs to five digits, no dense shares. The runs (all-MiniLM-L6-v2, seed 0, each with
its plain run, that of STS-B of one epoch):

    cola_300       blomix finetune --task cola --train-size 300 --set folds=2 --set search_epochs=2
    stsb_300       blomix finetune --task stsb --train-size 300 --set folds=2 --set search_epochs=2
    headlines_100  blomix finetune --train headlines-train.csv --validation headlines-test.csv
                   --set folds=3

pilot_headlines.json is the pilot.json of

    blomix pilot --train headlines-train.csv --folds 2
"""

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

FILES = ("result.json", "config.toml", "env.json", "splits.json", "alpha.json")
LINES = ("metrics.jsonl", "audit.jsonl", "validation.jsonl")


def kept(run: Path) -> dict[str, Any]:
    files: dict[str, Any] = {name: (run / name).read_text(encoding="utf-8") for name in FILES}
    files |= {name: (run / name).read_text(encoding="utf-8") for name in LINES}
    # Paths of the machine that the run was made on become names.
    files = {name: re.sub(r'"/[^"]*/([^"/]+)"', r'"\1"', text) for name, text in files.items()}
    files["alpha.json"] = json.dumps(rounded(json.loads(files["alpha.json"])))
    for name in LINES:
        lines = [json.loads(line) for line in files[name].split("\n") if line]
        files[name] = "".join(json.dumps(rounded(masked(line))) + "\n" for line in lines)
    return files


def masked(line: dict[str, Any]) -> dict[str, Any]:
    """A line without its text, and without the shares that alpha.json has too."""
    hidden = {k: line[k] and re.sub(r"\w", "x", line[k]) for k in ("text", "pair") if k in line}
    return {name: value for name, value in line.items() if name != "shares"} | hidden


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, _, run = argument.partition("=")
        with gzip.GzipFile(Path(__file__).with_name(f"{name}.json.gz"), "wb", mtime=0) as file:
            file.write(json.dumps(kept(Path(run)), ensure_ascii=False).encode())
