"""Finished runs that were damaged or edited, and places that cannot be written: one message."""

import json
import os
import resource
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import RUNS
from tests.report.synthetic import write_run

LABELS = ("negative", "positive")
READ = ("result.json", "alpha.json", "splits.json", "env.json", "config.toml")
READ += ("validation.jsonl", "metrics.jsonl", "audit.jsonl")


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """A finished run, as its files say, with the export of an untrained model."""
    from blomix.encoders import Encoder
    from blomix.runs import manifest

    run = write_run(tmp_path_factory.mktemp("finished") / "run", labels=LABELS, n=12, steps=3)
    Encoder.from_pretrained(tiny_model, label_names=LABELS).save_pretrained(run / "export")
    manifest.write(run / "export")
    return run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def commands(reviews, tmp_path):
    """Every command that reads a finished run, as a function of its directory."""
    out = tmp_path / "out"
    return {
        "evaluate": lambda run: ("evaluate", run, "--data", reviews["validation"]),
        "predict": lambda run: (
            *("predict", run, "--data", reviews["unlabelled"]),
            *("--output", tmp_path / "out.csv"),
        ),
        "export": lambda run: ("export", run, out),
        "report": lambda run: ("report", run, "--out", out),
        "compare": lambda run: ("compare", run, run),
    }


def refused(answer, *words):
    code, out, err = answer
    assert code == 2
    assert "Traceback" not in err
    assert not out
    for word in words:
        assert word in err


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


NO_RESULT = {
    "a list": b"[1]",
    "a number": b"1",
    "a word": b'"finished"',
    "empty": b"",
    "NUL bytes": b"\0\0",
    "UTF-16": "{}".encode("utf-16"),
    "nested lists": b"[" * 10**5,
    "a huge number": b'{"metric": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "report", "compare"])
@pytest.mark.parametrize("content", NO_RESULT.values(), ids=NO_RESULT)
def test_a_result_that_is_none(blomix, commands, run, command, content):
    (run / "result.json").write_bytes(content)
    refused(blomix(*commands[command](run)), "result.json")


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "report", "compare"])
def test_a_result_that_is_a_pipe(blomix, commands, run, command):
    (run / "result.json").unlink()
    os.mkfifo(run / "result.json")
    refused(blomix(*commands[command](run)), "result.json", "no regular file")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize("changes", [{"max_length": "x"}, {"metric": None}, {"max_length": 10**6}])
def test_a_result_with_another_kind_of_value(blomix, commands, run, command, changes):
    edit(run / "result.json", **changes)
    words = ["max_length" if "max_length" in changes else "metric"]
    refused(blomix(*commands[command](run)), *(words if changes != {"max_length": 10**6} else []))


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
@pytest.mark.parametrize("damage", ["flip", "pipe", "gone", "link", "manifest is a pipe"])
def test_a_damaged_export(blomix, commands, run, command, damage):
    path = run / "export" / ("manifest.json" if "manifest" in damage else "model.safetensors")
    content = bytearray(path.read_bytes())
    path.unlink()
    if "pipe" in damage:
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to("nowhere")
    elif damage == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    refused(blomix(*commands[command](run)), "export is damaged", path.name)


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_a_card_that_was_filled_in_is_no_damage(blomix, commands, run, command, tmp_path):
    (run / "export" / "README.md").write_text("license: mit")
    (run / "export" / ".DS_Store").touch()
    assert blomix(*commands[command](run))[0] == 0
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    (tmp_path / "out.csv").unlink(missing_ok=True)
    (run / "export" / "added_tokens.json").write_text("{}")
    refused(blomix(*commands[command](run)), "added_tokens.json was not there")


def test_a_run_is_not_exported_into_itself(blomix, run):
    refused(blomix("export", run, run / "export" / "sub"), "a directory outside the run's own")


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_a_pipe(blomix, commands, run, command, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    refused(blomix(*commands[command](run)), name, "no regular file")


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("alpha.json", {"matrices": [1]}, "matrices[0]"),
        ("alpha.json", {"searched": ["another"]}, "a share of every matrix"),
        ("splits.json", {"folds": []}, "balance of every fold"),
        ("splits.json", {"leakage": {}}, "leakage: an object with rows"),
        ("env.json", {"devices": None}, "devices to be a list"),
        ("result.json", {"labels": ["other", "names"]}, "one of the labels"),
        ("result.json", {"recipe": {"epochs": "x", "batch_size": 1}}, "recipe.epochs to be"),
        ("result.json", {"score": "high"}, "score to be int or float"),
    ],
)
def test_an_edited_file(blomix, commands, run, name, changes, word):
    edit(run / name, **changes)
    refused(blomix(*commands["report"](run)), name if name != "result.json" else "", word)


@pytest.mark.parametrize("command", ["report", "compare"])
def test_settings_that_were_cut_short(blomix, commands, run, command):
    (run / "config.toml").write_text('model = "x"\n')
    refused(blomix(*commands[command](run)), "config.toml", "expected a table [resolved]")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_single_texts_for_a_model_of_pairs(blomix, commands, run, command):
    edit(run / "result.json", pairs=True)
    refused(blomix(*commands[command](run)), "expected pairs of texts", "found single texts")


def test_pairs_for_a_model_of_single_texts(blomix, run, tmp_path):
    edit(run / "result.json", pairs=False)
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2\na,b\n")
    answer = blomix(
        "predict", run, "--data", tmp_path / "pairs.csv", "--output", tmp_path / "o.csv"
    )
    refused(answer, "expected single texts", "found pairs of texts")
    assert not (tmp_path / "o.csv").exists()


def test_runs_of_one_name_have_a_folder_each(blomix, run, tmp_path):
    pytest.importorskip("tensorboardX")
    other = shutil.copytree(run, tmp_path / "elsewhere" / run.name)
    result = json.loads((other / "result.json").read_text())
    (other / "result.json").write_text(json.dumps(result | {"seed": result["seed"] + 1}))
    code, _, err = blomix(
        *("report", run, other, "--out", tmp_path / "out", "--tensorboard", tmp_path / "events")
    )
    assert code == 0, err
    assert sorted(path.name for path in (tmp_path / "events").iterdir()) == ["run", "run-2"]


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "report", "compare"])
@pytest.mark.parametrize("path", ["none", "x" * 5000, "file", "loop"])
def test_what_is_no_run(blomix, commands, tmp_path, command, path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(blomix(*commands[command](tmp_path / path)))


@pytest.mark.parametrize("out", ["taken", "taken/below", "loop", "x" * 300, "full"])
def test_places_that_cannot_be_written(blomix, commands, run, tmp_path, reviews, out):
    (tmp_path / "taken").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    path = tmp_path / out
    refused(blomix("export", run, path))
    if out != "full":
        refused(blomix("compare", run, run, "--out", path), "cannot be written")
    if out == "taken":
        refused(blomix("report", run, "--tensorboard", path), "cannot write TensorBoard events")
    refused(blomix("predict", run, "--data", reviews["unlabelled"], "--output", path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["full", "loop", "run", "taken"]


@pytest.mark.parametrize("command", ["export", "predict", "report"])
def test_storage_that_fills_while_a_command_writes(blomix, commands, run, tmp_path, command):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        answer = blomix(*commands[command](run))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    refused(answer, "cannot be written: ", "File too large")
    assert command == "report" or [path.name for path in tmp_path.iterdir()] == ["run"]


def spots(value, path=()):
    yield path
    parts = value.items() if isinstance(value, dict) else ()
    for key, part in enumerate(value) if isinstance(value, list) else parts:
        yield from spots(part, (*path, key))


def mutated(data, value):
    """`value` with one part, anywhere in it, replaced or left out."""
    spot = data.draw(st.sampled_from(list(spots(value))))
    other = data.draw(st.sampled_from([None, True, -1, 1e300, "", "../..", [], {}, [1], {"a": 1}]))
    if not spot:
        return other
    inside = value
    for key in spot[:-1]:
        inside = inside[key]
    if data.draw(st.booleans()):
        del inside[spot[-1]]
    else:
        inside[spot[-1]] = other
    return value


@RUNS
@given(data=st.data())
def test_any_value_anywhere_is_read_or_one_message(finished, tmp_path, blomix, data):
    """Of every file that a report is made of."""
    run = tmp_path / "fuzzed"
    shutil.copytree(finished, run, dirs_exist_ok=True)
    name = data.draw(st.sampled_from([name for name in READ if name != "config.toml"]))
    lines = (run / name).read_text().splitlines() if name.endswith("jsonl") else []
    if lines:
        row = data.draw(st.integers(0, len(lines) - 1))
        lines[row] = json.dumps(mutated(data, json.loads(lines[row])))
        (run / name).write_text("\n".join(lines))
    else:
        (run / name).write_text(json.dumps(mutated(data, json.loads((run / name).read_text()))))
    code, out, err = blomix("compare", finished, run)
    assert code in (0, 2)
    assert bool(out) == (code == 0)
    assert "Traceback" not in err
