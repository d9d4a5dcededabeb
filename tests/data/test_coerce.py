"""Plain Python texts and labels become examples by the rules that files follow."""

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


@pytest.mark.parametrize("texts", [[1], ["a", ("a", "b")], [("a", "b", "c")], [("a", 1)], []])
def test_texts_that_are_none_are_refused(texts):
    with pytest.raises(InputError, match="expected strings, or pairs of strings"):
        examples_of((texts, None))
