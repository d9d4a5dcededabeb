"""A user's mistake gets one line and exit code 2, and nothing is written."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

ROWS = "text,label\ngood film,yes\nbad film,no\nfine book,yes\nawful book,no\n"
MANY = "text,label\n" + "".join(f"good {i},{i % 2}\n" for i in range(12))


@dataclass(frozen=True)
class At:
    """Where a case makes its files, and what there is to go wrong with."""

    folder: Path
    tiny_model: Path
    reviews: dict[str, Path]

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def model(self, change):
        folder = shutil.copytree(self.tiny_model, self.folder / "model")
        change(folder)
        return folder

    def model_of(self, **changes):
        def change(folder):
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return self.model(change)


# Case -> (arguments beside a good default, what the message says).
CASES = {
    "missing file": lambda at: (["--train", at.folder / "none.csv"], "none.csv"),
    "empty file": lambda at: (["--train", at.file("empty.csv", "")], "empty"),
    "header alone": lambda at: (["--train", at.file("header.csv", "text,label\n")], "no rows"),
    "folder as file": lambda at: (["--train", at.folder], "train"),
    "unknown column": lambda at: (["--text", "sentense"], "sentense"),
    "unknown label column": lambda at: (["--label", "lable"], "lable"),
    "new label in validation": lambda at: (
        [
            "--validation",
            at.file("new.csv", ROWS + "odd film,maybe\n"),
            "--train",
            at.file("t.csv", ROWS),
        ],
        "maybe",
    ),
    "one class": lambda at: (
        ["--train", at.file("one.csv", "text,label\ngood,yes\nfine,yes\n")],
        "class",
    ),
    "fewer rows than folds": lambda at: (
        ["--train", at.file("few.csv", MANY), "--validation", None, "--set", "folds=40"],
        "folds",
    ),
    "not UTF-8": lambda at: (
        ["--train", at.file("latin.csv", b"text,label\ncaf\xe9,yes\nbad,no\n")],
        "UTF-8",
    ),
    "ragged row": lambda at: (["--train", at.file("ragged.csv", ROWS + "one,two,three\n")], "row"),
    "label not a number": lambda at: (
        ["--label-kind", "values", "--train", at.file("word.csv", "text,label\na,1.5\nb,x\n")],
        "number",
    ),
    "label not finite": lambda at: (
        ["--label-kind", "values", "--train", at.file("nan.csv", "text,label\na,1.5\nb,nan\n")],
        "finite",
    ),
    "more rows than there are": lambda at: (["--train-size", "1000"], "1000"),
    "no model": lambda at: (["--model", at.folder / "no-model"], "no-model"),
    "no weights": lambda at: (
        ["--model", at.model(lambda folder: (folder / "model.safetensors").unlink())],
        "safetensors",
    ),
    "wrong shape": lambda at: (
        ["--model", at.model_of(intermediate_size=48)],
        "shape",
    ),
    "unknown architecture": lambda at: (
        ["--model", at.model_of(model_type="gpt2")],
        "bert",
    ),
    "unknown task": lambda at: (["--task", "colla", "--train", None, "--validation", None], "cola"),
    "task and train": lambda at: (["--task", "cola"], "--train"),
    "no data": lambda at: (["--train", None, "--validation", None], "--task"),
    "unwritable run directory": lambda at: (["--run-dir", at.file("taken", "") / "run"], "taken"),
    "foreign run directory": lambda at: (["--run-dir", at.reviews["train"].parent], "not a run"),
    "unknown method": lambda at: (["--method", "magic"], "plain"),
    "recipe of another method": lambda at: (["--method", "plain", "--recipe", "paper"], "blomix"),
    "unknown setting": lambda at: (["--set", "fold=3"], "folds"),
    "setting of another type": lambda at: (["--set", "folds=three"], "folds"),
    "setting out of range": lambda at: (["--set", "alpha_init=2"], "alpha_init"),
    "choice that does not exist": lambda at: (["--set", "granularity=cell"], "rank1"),
    "negative rate": lambda at: (["--learning-rate", "-1"], "learning_rate"),
    "too long": lambda at: (["--max-length", "4096"], "128"),
    "unknown flag": lambda at: (["--learnig-rate", "1"], "learnig-rate"),
    "config missing": lambda at: (["--config", at.folder / "none.toml"], "none.toml"),
    "config not TOML": lambda at: (["--config", at.file("bad.toml", "a = = 1")], "TOML"),
    "config of another command": lambda at: (
        ["--config", at.file("other.toml", "output = 'x'")],
        "output",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_gets_one_message(name, tmp_path, tiny_model, reviews, blomix):
    arguments, expected = CASES[name](At(tmp_path, tiny_model, reviews))
    run = tmp_path / "run"
    flags = {"--model": tiny_model, "--train": reviews["train"], "--run-dir": run}
    flags |= {"--validation": reviews["validation"]}
    given = list(arguments)
    while given:
        flag = given.pop(0)
        flags[flag] = given.pop(0) if given and not str(given[0]).startswith("--") else True
    words = [w for k, v in flags.items() if v is not None for w in ([k] if v is True else [k, v])]
    code, out, err = blomix("finetune", *words)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert not out
    assert not run.exists()
