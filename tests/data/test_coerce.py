"""Plain Python texts and labels become examples by the rules that files follow."""

import re

import numpy as np
import pytest

from blomix.data import Examples, examples_of
from blomix.errors import InputError


def test_texts_and_pairs_with_labels():
    single = examples_of((["a", "b", "c"], ["10", "2", "10"]))
    assert (single.label_names, single.labels.tolist()) == (("2", "10"), [1, 0, 1])
    pairs = examples_of(([("a", "x"), ("b", "y")], np.array([0.5, 1.0])))
    assert (pairs.texts, pairs.pairs) == (("a", "b"), ("x", "y"))
    assert pairs.is_regression
    assert pairs.metric == "spearman"
    assert examples_of((["a"], None)).labels is None
    assert examples_of(single) is single


def test_the_classes_are_those_of_the_training_examples():
    train = Examples(("a", "b"), None, np.array([0, 1]), ("n", "y"))
    assert examples_of((["c"], ["y"]), like=train).labels.tolist() == [1]
    with pytest.raises(InputError, match="row 1: expected one of training's classes"):
        examples_of((["c"], ["z"]), like=train)


def test_numbers_of_numpy_are_numbers_and_values_may_be_whole():
    assert examples_of((["a", "b"], [np.int64(1), np.bool_(True)])).label_names == ("1", "true")
    assert examples_of((["a", "b"], [1, 2]), regression=True).is_regression


class Frame(dict):
    """As pandas has it: its columns are its items, and `ndim` tells."""

    ndim = 2


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("data.csv", "a str of length 8"),
        ([("a", "x"), ("b", "y")], "a list of length 2"),
        (Frame(text=["a"], label=["x"]), "a Frame of length 2"),
        ((["a"], ["x"], ["y"]), "a tuple of length 3"),
        (None, "a NoneType"),
        (("a film", None), "texts: expected one column, such as a list, found a str of length 6"),
        ((Frame(text=["a"]), ["x"]), "texts: expected one column, such as a list, found a Frame"),
        ((["a"], {"label": ["x"]}), "labels: expected one column, such as a list, found a dict"),
        ((["a"], np.zeros((1, 2))), "labels: expected one column, such as a list, found a ndarray"),
    ],
)
def test_what_is_not_two_columns_is_refused(data, found):
    with pytest.raises(InputError, match=re.escape(found)):
        examples_of(data)


@pytest.mark.parametrize("texts", [[1], ["a", ("a", "b")], [("a", "b", "c")], [("a", 1)], []])
def test_texts_that_are_none_are_refused(texts):
    with pytest.raises(InputError, match="expected strings, or pairs of strings"):
        examples_of((texts, None))
