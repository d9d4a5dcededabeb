"""A user's mistake gets one line and exit code 2, and nothing is written."""

import json
import shutil

ROWS = "text,label\ngood film,yes\nbad film,no\nfine book,yes\nawful book,no\n"


def mistakes(tmp_path, tiny_model, reviews):
    """Case -> (arguments beside a good default, what the message says)."""

    def file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def model(name, change):
        folder = tmp_path / name
        shutil.copytree(tiny_model, folder)
        change(folder)
        return folder

    def config_of(folder, **changes):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    many = "text,label\n" + "".join(f"good {i},{i % 2}\n" for i in range(12))
    return {
        "missing file": (["--train", tmp_path / "none.csv"], "none.csv"),
        "empty file": (["--train", file("empty.csv", "")], "empty"),
        "header alone": (["--train", file("header.csv", "text,label\n")], "no rows"),
        "folder as file": (["--train", tmp_path], "train"),
        "unknown column": (["--text", "sentense"], "sentense"),
        "unknown label column": (["--label", "lable"], "lable"),
        "new label in validation": (
            [
                "--validation",
                file("new.csv", ROWS + "odd film,maybe\n"),
                "--train",
                file("t.csv", ROWS),
            ],
            "maybe",
        ),
        "one class": (["--train", file("one.csv", "text,label\ngood,yes\nfine,yes\n")], "class"),
        "fewer rows than folds": (
            ["--train", file("few.csv", many), "--validation", None, "--set", "folds=40"],
            "folds",
        ),
        "not UTF-8": (
            ["--train", file("latin.csv", b"text,label\ncaf\xe9,yes\nbad,no\n")],
            "UTF-8",
        ),
        "ragged row": (["--train", file("ragged.csv", ROWS + "one,two,three\n")], "row"),
        "label not a number": (
            ["--label-kind", "values", "--train", file("word.csv", "text,label\na,1.5\nb,x\n")],
            "number",
        ),
        "label not finite": (
            ["--label-kind", "values", "--train", file("nan.csv", "text,label\na,1.5\nb,nan\n")],
            "finite",
        ),
        "more rows than there are": (["--train-size", "1000"], "1000"),
        "no model": (["--model", tmp_path / "no-model"], "no-model"),
        "no weights": (
            ["--model", model("bare", lambda folder: (folder / "model.safetensors").unlink())],
            "safetensors",
        ),
        "wrong shape": (
            ["--model", model("wide", lambda folder: config_of(folder, intermediate_size=48))],
            "shape",
        ),
        "unknown architecture": (
            ["--model", model("gpt", lambda folder: config_of(folder, model_type="gpt2"))],
            "bert",
        ),
        "unknown task": (["--task", "colla", "--train", None, "--validation", None], "cola"),
        "task and train": (["--task", "cola"], "--train"),
        "no data": (["--train", None, "--validation", None], "--task"),
        "unwritable run directory": (["--run-dir", file("taken", "") / "run"], "taken"),
        "foreign run directory": (["--run-dir", reviews["train"].parent], "not a run"),
        "unknown method": (["--method", "magic"], "plain"),
        "recipe of another method": (["--method", "plain", "--recipe", "paper"], "blomix"),
        "unknown setting": (["--set", "fold=3"], "folds"),
        "setting of another type": (["--set", "folds=three"], "folds"),
        "setting out of range": (["--set", "alpha_init=2"], "alpha_init"),
        "choice that does not exist": (["--set", "granularity=cell"], "rank1"),
        "negative rate": (["--learning-rate", "-1"], "learning_rate"),
        "too long": (["--max-length", "4096"], "128"),
        "unknown flag": (["--learnig-rate", "1"], "learnig-rate"),
        "config missing": (["--config", tmp_path / "none.toml"], "none.toml"),
        "config not TOML": (["--config", file("bad.toml", "a = = 1")], "TOML"),
        "config of another command": (["--config", file("other.toml", "output = 'x'")], "output"),
    }


def test_each_mistake_gets_one_message(tmp_path, tiny_model, reviews, blomix):
    (tmp_path / "work").mkdir()
    cases = mistakes(tmp_path, tiny_model, reviews)
    failures = []
    for name, (arguments, expected) in cases.items():
        run = tmp_path / "work" / name.replace(" ", "-")
        flags = {"--model": tiny_model, "--train": reviews["train"], "--run-dir": run}
        flags |= {"--validation": reviews["validation"]}
        given = list(arguments)
        while given:
            flag = given.pop(0)
            flags[flag] = given.pop(0) if given and not str(given[0]).startswith("--") else True
        words = [
            w for k, v in flags.items() if v is not None for w in ([k] if v is True else [k, v])
        ]
        code, out, err = blomix("finetune", *words)
        if code != 2 or expected not in err or "Traceback" in err or out or run.exists():
            failures.append(f"{name}: code {code}, expected {expected!r} in {err!r}, out {out!r}")
    assert not failures, "\n".join(failures)
