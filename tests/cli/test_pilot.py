"""The pilot end to end, on data whose right decision is known."""

import csv
import json
import shlex

import numpy as np
import pytest
import tyro

from blomix.baselines.probe import Probe
from blomix.data import load
from blomix.encoders import Encoder
from blomix.pilot.decision import decide
from blomix.pilot.trial import run_trial
from blomix.recipe import Training
from tests.conftest import WORDS, result_of

pytestmark = pytest.mark.usefixtures("quick_to_compile")

QUICK = ("--epochs", "1", "--folds", "2", "--budget", "1h", "--splits", "3", "--pooling", "mean")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """wordy.csv: a label that one word decides, which frozen features show; coin.csv: a coin's."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    good, bad = ("good", "fine", "great"), ("bad", "awful", "poor")
    texts = [
        (f"the {thing} was {degree} {word}", "positive" if word in good else "negative")
        for thing in ("film", "book", "song", "play")
        for degree in ("very", "quite")
        for word in good + bad
    ]
    coin = [(" ".join(rng.choice(WORDS, 6)), ("heads", "tails")[i % 2]) for i in range(16)]
    for name, rows in (("wordy", texts), ("coin", coin)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return folder


def test_where_frozen_features_do_the_simpler_model_is_advised(
    blomix, tiny_model, labelled, tmp_path
):
    arguments = ("--model", tiny_model, "--train", labelled / "wordy.csv", "--out", tmp_path)
    code, output, error = blomix("pilot", *arguments, "--json", *QUICK)
    assert (code, error) == (0, "")
    result = result_of(output)
    assert (result["decision"], result["method"]) == ("simpler", "probe")
    assert result["command"].startswith("blomix finetune --model ")
    assert "--method probe" in result["command"]
    assert {cell["method"] for cell in result["cells"]} == {"probe", "plain", "blomix"}
    kept = json.loads((tmp_path / "pilot.json").read_text())
    assert kept["headline"] in (tmp_path / "pilot.html").read_text()
    assert (tmp_path / "figures" / "learning_curve.csv").is_file()


def test_what_is_tried_is_what_the_named_command_trains(tmp_path):
    """And the methods are on equal terms: one head, as many steps."""
    from blomix.cli import finetune, pilot
    from blomix.recipe import Recipe

    config = pilot.Config(model="some model", train=tmp_path / "a 'b'.csv", text="my text")
    for name, flags in pilot.flags_of(config).items():
        words = shlex.split(pilot.line(flags))
        assert words[:2] == ["blomix", "finetune"]
        parsed = tyro.cli(finetune.Config, args=words[2:])
        assert (parsed, parsed.method, parsed.text) == (flags, name, "my text")
    methods = {name: finetune.method_of(own) for name, own in pilot.flags_of(config).items()}
    assert methods["blomix"] == Recipe()
    assert methods["plain"].head_init == methods["blomix"].head_init
    # 100 labels in batches of 16: three folds of 5 steps and then 63, against 77.
    assert methods["plain"].epochs == 11


def test_where_labels_are_few_and_say_nothing_more_are_asked_for(tiny_model, labelled):
    examples = load(labelled / "coin.csv")
    encoder = Encoder.from_pretrained(tiny_model, label_names=examples.label_names, pooling="mean")
    methods = {"probe": Probe(), "plain": Training(epochs=1)}
    decision = decide(run_trial(encoder, examples, methods, 3600.0, splits=3)[0])
    assert decision.kind == "collect"
    assert decision.labels.low >= 24


def test_a_trial_of_a_file_that_cannot_be_read_leaves_nothing(blomix, tiny_model, tmp_path):
    out = tmp_path / "pilot"
    code, _, error = blomix("pilot", "--model", tiny_model, "--train", "no.csv", "--out", out)
    assert code == 2
    assert "no.csv" in error
    assert not out.exists()


def test_a_budget_that_is_none_is_refused(blomix, tiny_model, labelled):
    arguments = ("--model", tiny_model, "--train", labelled / "coin.csv", "--budget", "soon")
    code, _, error = blomix("pilot", *arguments)
    assert code == 2
    assert "expected a time such as 90s" in error


def test_texts_that_are_cut_are_told_and_a_length_that_cannot_be_leaves_nothing(
    blomix, tiny_model, labelled, tmp_path
):
    arguments = ("--model", tiny_model, "--train", labelled / "wordy.csv", "--out", tmp_path / "p")
    code, _, error = blomix("pilot", *arguments, "--max-length", "999")
    assert (code, (tmp_path / "p").exists()) == (2, False)
    assert "--max-length of 8 to 128 tokens" in error
    long = tmp_path / "long.csv"
    long.write_text((labelled / "wordy.csv").read_text().replace("very", "very " * 4))
    quick = ("--max-length", "8", "--budget", "1s", "--splits", "1")
    code, _, error = blomix("pilot", *arguments, "--train", long, *quick)
    assert code == 0
    assert "long: 24 of 48 training texts are longer than 8 tokens and are cut" in error
