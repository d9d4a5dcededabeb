"""A user's mistake gets one line and exit code 2, and nothing is written."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest

from blomix.cli import finetune
from blomix.recipe import program

ROWS = "text,label\ngood film,yes\nbad film,no\nfine book,yes\nawful book,no\n"
MANY = "text,label\n" + "".join(f"good {i},{i % 2}\n" for i in range(12))


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def config(at, content, flags=()):
    return [
        "--config",
        at.file("settings.toml", content),
        *(part for f in dict(flags).items() for part in f),
    ]


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

    def tokenizer_of(self, **changes):
        def change(folder):
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return self.model(change)

    def pipe(self):
        os.mkfifo(self.folder / "pipe.toml")
        return self.folder / "pipe.toml"

    def sparse(self):
        path = self.file("sparse.toml", "")
        os.truncate(path, 2**40)
        return path

    def loop(self):
        path = self.folder / "loop"
        path.symlink_to(path)
        return path


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
    "pairs in validation": lambda at: (
        ["--validation", at.file("pairs.csv", "sentence1,sentence2,label\na,b,positive\n")],
        "expected single texts, as the training examples are, found pairs",
    ),
    "processes alone": lambda at: (
        ["--processes", "2", "--process", "0"],
        "expected beside --coordinator",
    ),
    "no regular expression": lambda at: (
        ["--method", "lora", "--set", "matrices=("],
        "Lora.matrices: expected a regular expression",
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
    "negative seed": lambda at: (["--seed", "-1"], "--seed"),
    "seed of many digits": lambda at: (["--seed", "9" * 20], "2^63 - 1"),
    "too long": lambda at: (["--max-length", "4096"], "128"),
    "unknown flag": lambda at: (["--learnig-rate", "1"], "learnig-rate"),
    "config missing": lambda at: (["--config", at.folder / "none.toml"], "none.toml"),
    "config not TOML": lambda at: (["--config", at.file("bad.toml", "a = = 1")], "TOML"),
    "config of another command": lambda at: (
        ["--config", at.file("other.toml", "output = 'x'")],
        "output",
    ),
    "config with a NUL byte": lambda at: (config(at, b"epochs = 1\0"), "expected TOML"),
    "config in UTF-16": lambda at: (config(at, "epochs = 1".encode("utf-16")), "expected TOML"),
    "config nested deeply": lambda at: (config(at, b"a = " + b"[" * 10**5), "expected TOML"),
    "config with a huge number": lambda at: (config(at, b"seed=" + b"9" * 5000), "expected TOML"),
    "config with a word for a number": lambda at: (config(at, b"epochs = 'x'"), "epochs"),
    "config with a table for a number": lambda at: (config(at, b"[epochs]\na = 1"), "epochs"),
    "config with a date for a number": lambda at: (config(at, b"epochs = 2020-01-01"), "epochs"),
    "config that names a NUL path": lambda at: (
        config(at, b'run-dir = "a\\u0000b"', {"--run-dir": None}),
        "--run-dir: a NUL byte",
    ),
    "config is a folder": lambda at: (["--config", at.folder], "no regular file"),
    "config is a pipe": lambda at: (["--config", at.pipe()], "no regular file"),
    "config is a device": lambda at: (["--config", "/dev/zero"], "no regular file"),
    "config of a terabyte": lambda at: (["--config", at.sparse()], "more than the 1000000"),
    "model's name too long": lambda at: (["--model", "x" * 5000], "expected a directory with"),
    "model in nobody's home": lambda at: (["--model", "~nobody-at-all/m"], "home directory"),
    "model's config is a pipe": lambda at: (
        ["--model", at.model(lambda folder: replace_by_pipe(folder / "config.json"))],
        "no regular file",
    ),
    "model's config of a terabyte": lambda at: (
        ["--model", at.model(lambda folder: os.truncate(folder / "config.json", 2**40))],
        "has 1099511627776 bytes",
    ),
    "tokenizer is a pipe": lambda at: (
        ["--model", at.model(lambda folder: replace_by_pipe(folder / "tokenizer.json"))],
        "no usable tokenizer",
    ),
    "tokenizer without padding": lambda at: (
        ["--model", at.tokenizer_of(pad_token=None)],
        "pad_token",
    ),
    "tokenizer's length is a word": lambda at: (
        ["--model", at.tokenizer_of(model_max_length="x")],
        "expected a number as model_max_length",
    ),
    "endless epochs": lambda at: (["--epochs", "inf"], "epochs: expected a finite number"),
    "endless search": lambda at: (["--set", "search_epochs=inf"], "expected a finite number"),
    "rate that is no number": lambda at: (["--learning-rate", "nan"], "learning_rate"),
    "run directory is a loop": lambda at: (
        ["--run-dir", at.loop()],
        "cannot open the run directory",
    ),
    "run directory's name too long": lambda at: (["--run-dir", "x" * 300], "too long"),
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


def taken(at):
    return at.file("taken", "")


# Other commands: their arguments, and what the message says.
OTHERS = {
    "plan for no tokens": lambda at: (
        ("plan", at.tiny_model, "--topology", "cpu:1", "--max-length", "0"),
        "length: expected a whole number of at least 1",
    ),
    "plan for no folds": lambda at: (
        ("plan", at.tiny_model, "--topology", "cpu:1", "--ensemble", "0"),
        "ensemble: expected a whole number of at least 1",
    ),
    "plan for a million processors": lambda at: (
        ("plan", at.tiny_model, "--topology", "cpu:1000000"),
        "expected at most 1024",
    ),
    "plan without a model": lambda at: (
        ("plan", at.folder / "none", "--topology", "cpu:1"),
        "none",
    ),
    "pilot to a taken place": lambda at: (
        (*pilot(at), "--out", taken(at)),
        "cannot write to",
    ),
    "pilot below a file": lambda at: (
        (*pilot(at), "--out", taken(at) / "below"),
        "cannot write to",
    ),
    "pilot over another": lambda at: (
        (*pilot(at), "--out", at.file("pilot.json", "{}").parent),
        "has the result of a trial",
    ),
    "pilot for a score that is none": lambda at: (
        (*pilot(at), "--target", "nan"),
        "--target: expected a finite score",
    ),
    "pilot by a score of values": lambda at: (
        (*pilot(at), "--metric", "pearson"),
        "--metric pearson: the labels of train are classes, which are scored by accuracy or f1",
    ),
    "pilot without time": lambda at: ((*pilot(at), "--budget", "0s"), "--budget"),
    "pilot of endless epochs": lambda at: ((*pilot(at), "--epochs", "inf"), "finite"),
    "study nested deeply": lambda at: (study(at, b"a = " + b"[" * 10**5), "expected TOML"),
    "study with a huge number": lambda at: (study(at, b"a = " + b"9" * 5000), "expected TOML"),
    "study that is not UTF-8": lambda at: (study(at, b"\xff"), "expected TOML"),
    "study of something else": lambda at: (study(at, b"a = 1"), "no entry 'a'"),
    "study of which nothing is asked for": lambda at: (
        (*study(at, STUDY), "--select", "plain/none/*"),
        "no cell of",
    ),
    "a place among the settings": lambda at: (
        ("evaluate", "--config", at.file("c.toml", 'run = "x"'), "--data", at.folder),
        "'run' is told by its place on the command line alone",
    ),
    "no study": lambda at: (("bench", at.folder, "--summarize"), "study.toml"),
    "study that is a pipe": lambda at: (
        (study(at, b""), replace_by_pipe(at.folder / "study.toml"))[0],
        "no regular file",
    ),
    "unknown command": lambda at: (("finetunne",), "no command 'finetunne'"),
}


def pilot(at):
    return "pilot", "--model", at.tiny_model, "--train", at.reviews["train"]


STUDY = "sizes = [8]\nseeds = [0]\n[tasks.none_such]\n"


def study(at, content):
    at.file("plain.toml", 'method = "plain"')
    at.file("study.toml", content)
    return "bench", at.folder, "--model", at.tiny_model


@pytest.mark.parametrize("name", OTHERS)
def test_mistakes_of_other_commands(name, tmp_path, tiny_model, reviews, blomix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, expected = OTHERS[name](At(tmp_path, tiny_model, reviews))
    code, out, err = blomix(*arguments)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert not out


def test_more_than_memory_is_told_with_what_takes_less(tmp_path, tiny_model, reviews, blomix):
    flags = ("--model", tiny_model, "--train", reviews["train"], "--run-dir", tmp_path / "run")
    code, out, err = blomix("finetune", *flags, "--method", "plain", "--batch-size", 10**13)
    assert code == 2
    assert "out of memory" in err
    assert "a smaller --batch-size" in err
    assert "Traceback" not in err
    assert not out


def test_a_step_beyond_the_machine_is_not_run(tmp_path, tiny_model, reviews, blomix, monkeypatch):
    monkeypatch.setattr(program, "device_memory", lambda of_host: 1000)
    flags = ("--model", tiny_model, "--train", reviews["train"], "--run-dir", tmp_path / "run")
    code, _, err = blomix("finetune", *flags, "--method", "plain")
    assert code == 2
    assert "out of memory: finetune takes" in err
    assert (tmp_path / "run/metrics.jsonl").read_text() == ""
    monkeypatch.undo()
    code, _, err = blomix("finetune", *flags, "--method", "plain", "--batch-size", 4)
    assert code == 0, err  # what the message advises, in the same directory


def test_memory_that_the_device_refuses_is_told(reviews, tiny_model, blomix, monkeypatch):
    def refuse(config):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n#")

    monkeypatch.setattr(finetune, "run", refuse)
    code, _, err = blomix("finetune", "--model", tiny_model, "--train", reviews["train"])
    assert code == 2
    assert "allocating 9 bytes.; for less, give --accumulate 2 or more" in err


def test_other_failures_of_the_device_are_not_hidden(reviews, tiny_model, blomix, monkeypatch):
    def fail(config):
        raise jax.errors.JaxRuntimeError("INTERNAL: a defect")

    monkeypatch.setattr(finetune, "run", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a defect"):
        blomix("finetune", "--model", tiny_model, "--train", reviews["train"])
