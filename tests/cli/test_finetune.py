"""The main job through the command line, on a tiny model."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from blomix.baselines import METHODS
from tests.conftest import compiling_quickly, result_of

pytestmark = pytest.mark.usefixtures("quick_to_compile")

FAST = ("--set", "folds=2", "--epochs", "20", "--set", "search_epochs=4", "--learning-rate", "5e-3")
SHORT = ("--batch-size", "8", "--json")


@pytest.fixture(scope="session")
def finished(tiny_model, reviews, tmp_path_factory):
    """A finished run of the recipe: (run directory, its JSON result)."""
    from contextlib import redirect_stdout
    from io import StringIO

    from blomix.cli import _main

    run = tmp_path_factory.mktemp("runs") / "recipe"
    out = StringIO()
    arguments = ["finetune", "--model", tiny_model, "--train", reviews["train"]]
    arguments += ["--validation", reviews["validation"], "--run-dir", run, *FAST, *SHORT]
    with redirect_stdout(out), compiling_quickly():
        assert _main([str(argument) for argument in arguments]) == 0
    return run, result_of(out.getvalue())


def test_run_directory_holds_what_the_documents_say(finished):
    run, result = finished
    names = {path.name for path in run.iterdir()}
    assert {"config.toml", "env.json", "splits.json", "metrics.jsonl", "alpha.json"} <= names
    assert {"result.json", "export", "validation.jsonl", "shares.safetensors"} <= names
    assert json.loads((run / "result.json").read_text()) == result
    for field in ("metric", "score", "majority_score", "metrics", "method", "recipe", "seed"):
        assert field in result
    sources = {name: Path(source).name for name, source in result["sources"].items()}
    assert sources == {"train": "train.csv", "validation": "validation.csv"}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == result["steps"]
    assert {record["phase"] for record in records} == {"search", "finetune"}


def test_recipe_learns_what_a_majority_vote_cannot(finished):
    _, result = finished
    assert result["majority_score"] == pytest.approx(0.5)
    assert result["score"] > 0.8


def test_a_run_s_columns_and_classes_are_those_of_what_it_predicts(
    tiny_model, tmp_path, monkeypatch, blomix
):
    """`text` is a column's well-known name, LABEL_0 a class that has none."""
    rows = [
        f"{thing} {word},nothing,LABEL_{label}\n"
        for thing in ("film", "book", "song", "play")
        for label, word in enumerate(("good", "bad", "quite"))
    ]
    data, out = tmp_path / "data.csv", tmp_path / "out.csv"
    data.write_text("title,text,label\n" + "".join(rows))
    run = tmp_path / "run"
    flags = ("--model", tiny_model, "--train", data, "--validation", data, "--text", "title")
    flags += ("--metric", "mcc")
    code, _, err = blomix("finetune", *flags, "--method", "probe", "--run-dir", run)
    assert code == 0, err
    assert "data: 12 examples; text in 'title', label in 'label'; 'LABEL_0' 4" in err
    assert "data: 12 of 12 scored examples have a text that is trained on too" in err
    code, _, err = blomix("predict", run, "--data", data, "--output", out)
    assert code == 0, err
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == [row.split(",")[0] for row in rows]
    assert {row["prediction"] for row in found} <= {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert "p(LABEL_2)" in found[0]
    code, scored, err = blomix("evaluate", run, "--data", data, "--json")
    assert code == 0, err
    result = json.loads((run / "result.json").read_text())
    assert result_of(scored)["score"] == result["score"] == result["metrics"]["mcc"]
    code, _, err = blomix("evaluate", run, "--data", data, "--text", "text", "--json")
    assert code == 0, err
    data.write_text("review,label\ngood film,LABEL_0\n")
    code, _, err = blomix("predict", run, "--data", data, "--output", tmp_path / "other.csv")
    assert code == 2
    assert "no column 'title'; it has 'review', 'label'; say which with --text" in err
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code, _, err = blomix("export", run, ".")
    assert code == 2
    assert "another directory than the one you are in" in err


def test_columns_found_by_name_are_those_of_what_is_predicted(finished, blomix, tmp_path):
    """Another column that bears a well-known name, or two, is no reason to guess again."""
    run, _ = finished
    data = tmp_path / "more.csv"
    data.write_text("review,text,label,score\nnothing,a good film,positive,1\n")
    code, _, err = blomix("predict", run, "--data", data, "--output", tmp_path / "out.jsonl")
    assert code == 0, err
    assert "more: 1 examples; text in 'text'" in err
    assert json.loads((tmp_path / "out.jsonl").read_text())["text"] == "a good film"
    code, _, err = blomix("evaluate", run, "--data", data)
    assert code == 0, err
    assert "text in 'text', label in 'label'; 'negative' 0, 'positive' 1" in err


def test_alpha_is_reported_for_every_mixed_matrix(finished):
    run, _ = finished
    alpha = json.loads((run / "alpha.json").read_text())
    layers = {(entry["layer"], entry["matrix"]) for entry in alpha["matrices"]}
    assert {(0, "query"), (1, "query"), (1, "attention output")} <= layers
    assert all(0 <= entry["share_min"] <= entry["share"] <= 1 for entry in alpha["matrices"])
    assert len(alpha["history"][0]["shares"]) == len(alpha["searched"])


def test_scanned_layers_are_reported_as_layers_of_their_own(
    finished, tiny_model, reviews, blomix, tmp_path
):
    run = tmp_path / "scanned"
    flags = ("--model", tiny_model, "--train", reviews["train"], "--scan-layers", *SHORT)
    flags += ("--validation", reviews["validation"], "--set", "folds=2", "--epochs", "1")
    flags += ("--set", "granularity=matrix", "--set", "outer_learning_rate=0.05")
    assert blomix("finetune", *flags, "--run-dir", run)[0] == 0
    alpha, unrolled = (json.loads((at / "alpha.json").read_text()) for at in (run, finished[0]))
    shares = {entry["path"]: entry["share"] for entry in alpha["matrices"]}
    assert shares.keys() == {entry["path"] for entry in unrolled["matrices"]}
    assert sorted(alpha["searched"]) == sorted(unrolled["searched"])
    # The average over the folds of what each ended with, and no matrix has another's.
    last = {line["lane"]: line["shares"] for line in alpha["history"]}
    ended = dict(zip(alpha["searched"], np.mean(list(last.values()), axis=0), strict=True))
    assert ended == pytest.approx(shares, abs=1e-6)
    assert np.diff(sorted(shares.values())).min() > 1e-5
    assert blomix("report", run)[0] == 0


def test_evaluate_repeats_the_score(finished, reviews, blomix):
    run, result = finished
    code, out, _ = blomix("evaluate", run, "--data", reviews["validation"], "--json")
    assert code == 0
    assert result_of(out)["score"] == result["score"]
    assert result_of(out)["trained_on"] == 0


def test_rows_that_were_trained_on_are_told(finished, reviews, blomix):
    run, result = finished
    code, _, err = blomix("evaluate", run, "--data", reviews["train"])
    assert code == 0
    rows = result["train_size"]
    assert f"{rows} of {rows} examples were trained on: the score says less" in err


def test_predict_labels_a_file_without_labels(finished, reviews, blomix, tmp_path):
    run, result = finished
    output = tmp_path / "predictions.csv"
    arguments = ("predict", run, "--data", reviews["unlabelled"], "--output", output)
    assert blomix(*arguments)[0] == 0
    lines = output.read_text().splitlines()
    assert len(lines) == 1 + result["validation_size"]
    assert {line.split(",")[1] for line in lines[1:]} <= {"positive", "negative"}
    code, _, err = blomix(*arguments)
    assert code == 2
    assert "exists" in err


def test_predict_keeps_the_columns_that_it_is_told_to(finished, blomix, tmp_path):
    run, _ = finished
    data, output = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"text": "good", "id": "=a1", "price": 2.5, "tags": []},
        {"text": "bad", "id": "b2", "price": float("nan"), "tags": []},
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def predict(*keep):
        arguments = ("predict", run, "--data", data, "--output", output)
        return blomix(*arguments, *(flag for name in keep for flag in ("--keep", name)))

    assert predict("price", "id")[0] == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(row["id"], row["price"], row["text"]) for row in found] == [
        ("=a1", 2.5, "good"),
        ("b2", None, "bad"),
    ]
    assert list(found[0])[:4] == ["price", "id", "text", "prediction"]
    output.unlink()
    for name, message in {
        "Id": "no column 'Id'; it has 'text', 'id', 'price', 'tags'; say which with --keep",
        "tags": "row 1, column 'tags': expected a string or a number, found list []",
    }.items():
        code, _, err = predict(name)
        assert (code, message in err, output.exists()) == (2, True, False), err
    rows[0]["prediction"] = rows[0]["text"]
    data.write_text(json.dumps(rows[0]) + "\n")
    code, _, err = predict("prediction")
    assert code == 2
    assert "--keep prediction: expected a column that the output does not have" in err


def test_export_is_the_model_that_was_scored(finished, blomix, tmp_path):
    run, _ = finished
    out = tmp_path / "model"
    (tmp_path / ".tmp-model").mkdir()  # as a killed export leaves it
    (tmp_path / ".tmp-model/model.safetensors").write_bytes(b"half")
    assert blomix("export", run, out)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    for path in (run / "export").rglob("*"):
        if path.is_file():
            assert (out / path.relative_to(run / "export")).read_bytes() == path.read_bytes()
    assert blomix("export", run, out)[0] == 2


def test_same_command_again_returns_the_finished_run(finished, tiny_model, reviews, blomix):
    run, result = finished
    before = (run / "metrics.jsonl").read_bytes()
    arguments = ("--model", tiny_model, "--train", reviews["train"], *FAST, *SHORT)
    code, out, _ = blomix(
        "finetune", *arguments, "--validation", reviews["validation"], "--run-dir", run
    )
    assert code == 0
    assert result_of(out) == result
    assert (run / "metrics.jsonl").read_bytes() == before


def test_what_a_killed_export_left_goes_with_the_next_session(finished, blomix, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "killed")
    (run / "result.json").unlink()
    (run / ".export-ab12cd").mkdir()
    code, out, err = blomix("finetune", "--config", run / "config.toml", "--run-dir", run, "--json")
    assert code == 0, err
    assert result_of(out)["score"] == finished[1]["score"]
    assert not list(run.glob(".export*"))
    weights = "export/model.safetensors"
    assert (run / weights).read_bytes() == (finished[0] / weights).read_bytes()


def test_same_seed_gives_the_same_bytes(finished, reviews, blomix, tmp_path):
    run, result = finished
    again = tmp_path / "again"
    code, out, err = blomix(
        "finetune", "--config", run / "config.toml", "--run-dir", again, "--json"
    )
    assert code == 0, err
    assert result_of(out)["score"] == result["score"]
    for name in ("metrics.jsonl", "alpha.json", "splits.json", "export/model.safetensors"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


def test_another_seed_gives_other_weights(finished, blomix, tmp_path):
    run, _ = finished
    other = tmp_path / "other"
    code, _, err = blomix(
        "finetune", "--config", run / "config.toml", "--seed", "1", "--run-dir", other, "--json"
    )
    assert code == 0, err
    name = "export/model.safetensors"
    assert (other / name).read_bytes() != (run / name).read_bytes()


def test_plain_runs_through_the_same_path(tiny_model, reviews, blomix, tmp_path):
    code, out, err = blomix(
        "finetune", "--method", "plain", "--model", tiny_model, "--train", reviews["train"],
        "--run-dir", tmp_path / "plain", "--epochs", "2", *SHORT,
    )  # fmt: skip
    assert code == 0, err
    result = result_of(out)
    assert result["steps"] == result["gradient_evaluations"] == 2 * 3  # 24 of 30 rows, by 8
    assert (result["train_size"], result["validation_size"]) == (24, 6)


def test_regression_through_the_same_path(tiny_model, reviews, blomix, tmp_path):
    code, out, err = blomix(
        "finetune", "--model", tiny_model, "--train", reviews["scores"], "--label", "score",
        "--run-dir", tmp_path / "run", "--set", "hypergradient=first_order", *FAST, *SHORT,
    )  # fmt: skip
    assert code == 0, err
    result = result_of(out)
    assert result["metric"] == "spearman"
    assert result["labels"] == []
    assert -1 <= result["score"] <= 1
    output = tmp_path / "values.jsonl"
    assert (
        blomix("predict", tmp_path / "run", "--data", reviews["unlabelled"], "--output", output)[0]
        == 0
    )
    values = [json.loads(line)["prediction"] for line in output.read_text().splitlines()]
    assert all(np.isfinite(values))


def test_the_help_names_every_method(blomix):
    _, out, _ = blomix("finetune", "--help")
    assert [name for name in METHODS if name not in out] == []


def test_dry_run_says_what_would_happen_and_writes_nothing(tiny_model, reviews, blomix, tmp_path):
    run = tmp_path / "run"
    arguments = (
        "finetune", "--model", tiny_model, "--train", reviews["train"], "--run-dir", run,
        "--dry-run",
    )  # fmt: skip
    twice = tmp_path / "twice.csv"
    twice.write_text("text,label\n" + "".join(f"film {i % 8},{i // 8 % 2}\n" for i in range(32)))
    code, _, err = blomix(*arguments, "--train", twice)
    assert code == 0, err
    assert "twice: 32 examples; text in 'text', label in 'label'; '0' 16, '1' 16" in err
    assert "training texts are there with more than one label" in err
    code, out, err = blomix(*arguments, "--json")
    assert code == 0, err
    assert not err
    result = result_of(out)
    assert result["parameters"] > result["mixed_parameters"] > 0
    assert result["memory_bytes"]["temporaries"] > 0
    assert not Path(run).exists()


def test_doctor_finds_the_hypergradient_exact(blomix):
    code, out, err = blomix("doctor", "--json")
    assert code == 0, err
    assert result_of(out)["hypergradient_error"] < 1e-5
