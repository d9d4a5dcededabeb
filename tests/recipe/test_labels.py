"""The model, the training and the scored examples number the classes alike, or one message says no.

All with the linear probe, which compiles next to nothing.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

import blomix
from blomix import Encoder, InputError
from blomix.baselines import METHODS
from blomix.data import Examples, examples_of, load
from blomix.recipe.finetune import dry_run

PROBE = METHODS["probe"]()


@pytest.fixture(scope="module")
def train(reviews):
    return load(reviews["train"])


@pytest.fixture(scope="module")
def scored(reviews, train):
    return load(reviews["validation"], **train.kind)


def raw(examples: Examples):
    return list(examples.texts), [examples.label(row) for row in range(len(examples))]


def finetune(model, train, scored, **options):
    return blomix.finetune(model, train, scored, PROBE, max_length=16, quiet=True, **options)


@pytest.mark.parametrize("names", [None, ("negative", "positive"), ("positive", "negative")])
@pytest.mark.parametrize("form", [raw, lambda examples: examples], ids=["lists", "examples"])
def test_predictions_are_names_whatever_order_the_model_has(tiny_model, train, scored, names, form):
    model = Encoder.from_pretrained(tiny_model, num_labels=2, label_names=names)
    result = finetune(model, form(train), form(scored))
    texts, labels = raw(scored)
    right = np.mean([a == b for a, b in zip(result.predict(texts), labels, strict=True)])
    assert result.score == right > 0.6
    assert result.evaluate(scored)["score"] == right
    assert list(result.label_names or ()) == result.summary["labels"]


def test_scored_examples_without_one_class_are_numbered_by_name(tiny_model, train, scored):
    three = Examples(
        (*train.texts, "nothing at all", "nothing"),
        labels=np.array([*(train.labels + 1), 0, 0]),
        label_names=("absent", *train.label_names),
    )
    model = Encoder.from_pretrained(tiny_model, num_labels=3)
    whole = replace(scored, labels=scored.labels + 1, label_names=three.label_names)
    assert finetune(model, three, scored).score == finetune(model, three, whole).score > 0.6


def test_whole_numbers_are_values_for_a_model_of_values(tiny_model, train, scored):
    model = Encoder.from_pretrained(tiny_model, num_labels=1, regression=True)
    whole = [(list(part.texts), (part.labels * 4).tolist()) for part in (train, scored)]
    result = finetune(model, *whole)
    assert result.summary["metric"] == "spearman"
    assert result.evaluate(whole[1])["score"] == result.score


def test_a_finished_run_computes_as_it_did(tiny_model, train, scored, tmp_path):
    model = Encoder.from_pretrained(tiny_model, num_labels=2, dtype="bfloat16")
    first, again = (finetune(model, train, scored, run_dir=tmp_path / "run") for _ in range(2))
    assert again.model.model.options.dtype == "bfloat16"
    np.testing.assert_array_equal(again.logits(scored), first.logits(scored))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "a/path"}, "model: expected an encoder, as Encoder.from_pretrained gives"),
        ({"recipe": "paper"}, "recipe: expected a method such as Recipe"),
        ({"seed": 2**63}, "seed: expected a whole number from 0 to 2^63 - 1"),
        ({"max_length": 32.0}, "--max-length of 8 to 128 tokens"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 2^63 - 1, found -1"),
        ({"train": "train.csv"}, "expected (texts, labels)"),
        ({"validation": (["one"], None)}, "expected labelled examples, found texts alone"),
    ],
)
def test_arguments_of_another_kind_are_named(tiny_model, train, changes, message):
    model = Encoder.from_pretrained(tiny_model, num_labels=2)
    arguments = {"model": model, "train": train, "recipe": PROBE, "quiet": True} | changes
    with pytest.raises(InputError, match=re.escape(message)):
        blomix.finetune(**arguments)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a", "b", "c"], {"num_labels": 2}, "a head for 3 classes"),
        (["a", "b", "b"], {"num_labels": 1, "regression": True}, "found one for values"),
        ([0.5, 1.5, 2.5], {"num_labels": 2}, "expected a head for values"),
        (
            ["a", "b", "b"],
            {"label_names": ("a", "x")},
            "for the classes a, b of texts, found one for a, x",
        ),
        (["a", "a", "b"], {"num_labels": 2}, "found 2 labelled 'a'"),
        ([2.5, 2.5, 3.5], {"num_labels": 1}, "two different values or more, found 2 labelled 2.5"),
    ],
)
def test_other_labels_are_refused(tiny_model, labels, options, message):
    model = Encoder.from_pretrained(tiny_model, **options)
    train = examples_of((["one", "two", "three"], labels))
    scored = train
    if "labelled" in message:  # both classes are known, the rows of one are left out
        train = train.select(np.array([0, 1]))
    with pytest.raises(InputError, match=message):
        finetune(model, train, scored)


def test_scored_labels_of_another_kind_are_refused(tiny_model, train):
    model = Encoder.from_pretrained(tiny_model, num_labels=2)
    values = examples_of((["one", "two"], [0.5, 1.5]))
    with pytest.raises(InputError, match="expected labels that are classes, found values"):
        finetune(model, train, values)


def test_a_method_without_a_phase_can_be_run_dry(tiny_model, train, scored):
    model = Encoder.from_pretrained(tiny_model, num_labels=2)
    found = dry_run(model, train, scored, PROBE, max_length=16)
    assert (found["first_phase"], found["first_phase_steps"]) == (None, 0)
