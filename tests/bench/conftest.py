"""A data root with two tiny tasks, and a way to write and run studies on them."""

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def quick(quick_to_compile):
    """All of these tests compile more than they compute."""


@pytest.fixture
def data_root(tmp_path, reviews) -> Path:
    """Folders films (train and validation) and books (train alone)."""
    for name, splits in (("films", ("train", "validation")), ("books", ("train",))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for split in splits:
            target = tmp_path / "data" / name / f"{split}.csv"
            target.write_bytes(reviews[split].read_bytes())
    return tmp_path / "data"


STUDY = """
sizes = [12]
seeds = [1, 2]
subset_seeds = [11, 12]
validation_rows = 8
[settings]
batch_size = 4
epochs = 1
learning_rate = 1e-3
[tasks.films]
max_length = 16
[tasks.books]
max_length = 16
validation = "holdout"
"""


@pytest.fixture
def study(tmp_path):
    """`study(text, **variants)` writes a folder: study.toml and a file a variant."""

    def write(text: str = STUDY, **variants: str) -> Path:
        folder = tmp_path / "study"
        folder.mkdir(exist_ok=True)
        (folder / "study.toml").write_text(text)
        for name, body in (variants or {"plain": 'method = "plain"'}).items():
            (folder / f"{name}.toml").write_text(body)
        return folder

    return write


@pytest.fixture
def bench(blomix, tiny_model, data_root):
    """`bench(folder, *flags) -> dict`: runs the command, which should succeed."""

    def call(folder: Path, *flags) -> dict:
        place = ("--model", tiny_model, "--data", data_root)
        code, out, err = blomix("bench", folder, *place, *flags, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


def cells(folder: Path) -> dict[str, dict]:
    """The cells' records by their path below the results."""
    results = folder / "results"
    return {
        str(path.relative_to(results)): json.loads(path.read_text())
        for path in sorted(results.rglob("*.json"))
    }
