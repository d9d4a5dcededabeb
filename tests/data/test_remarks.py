"""What is said of labelled data before anything is trained on it."""

import numpy as np
import pytest

from blomix.data import (
    Examples,
    duplicates,
    empty_remarks,
    encode,
    leak_remarks,
    leakage,
    load,
    reading,
    remarks,
)
from blomix.data.batches import cut_rows
from blomix.encoders import Encoder


def examples(*rows: tuple[str, str]) -> Examples:
    texts, labels = zip(*rows, strict=True)
    names = tuple(sorted(set(labels)))
    return Examples(texts, None, np.array([names.index(label) for label in labels]), names, "data")


def remarked(train: Examples, scored: Examples) -> list[str]:
    return [
        *remarks(train, duplicates(train)),
        *empty_remarks(scored, "scored"),
        *leak_remarks(scored, leakage(train, scored)),
    ]


CLEAN = examples(("a", "no"), ("b", "yes"))
NEW = examples(("c", "no"), ("d", "yes"))


def test_the_columns_and_classes_that_were_read_are_named(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("id,Review,class\n1,good,praise\n2,bad,complaint\n3,fine,praise\n")
    assert reading(load(path)) == (
        "mine: 3 examples; text in 'Review', label in 'class'; 'complaint' 1, 'praise' 2"
    )


def test_of_texts_alone_their_column_is_named(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("id,Review\n1,good\n2,bad\n")
    assert reading(load(path, labelled=False)) == "mine: 2 examples; text in 'Review'"


def test_pairs_and_values_are_told_as_such(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("sentence1,sentence2,score\na,b,1.5\nc,d,4\n")
    found = reading(load(path))
    assert "text in 'sentence1' and 'sentence2', label in 'score'" in found
    assert found.endswith("values from 1.5 to 4")


def test_many_classes_are_counted_and_not_listed():
    found = reading(examples(*((f"text {i}", f"class {i % 9}") for i in range(20))))
    assert found == "data: 20 examples; 9 classes of 2 to 3 examples ('class 0', 'class 1', " + (
        "'class 2' and 6 more)"
    )


def test_of_clean_data_nothing_is_said():
    assert remarked(CLEAN, NEW) == []


@pytest.mark.parametrize(
    ("train", "scored", "said"),
    [
        (examples(("", "no"), (" ", "no"), ("b", "yes")), NEW, "2 of 3 training texts are empty"),
        (examples(("a", "no"), ("a", "yes")), NEW, "1 training texts are there with more than one"),
        (CLEAN, examples(("a", "no"), ("b", "no"), ("c", "yes")), "2 of 3 scored examples have a"),
        (CLEAN, examples(("a", "no"), ("b", "no"), ("c", "yes")), "(1 with another label)"),
        (examples(("a", "No"), ("b", "no")), NEW, "the labels 'No' and 'no' are two classes"),
        (examples(*((f"t{i}", str(i)) for i in range(6))), NEW, "6 numbers are classes here"),
        (examples(("a", "0,5"), ("b", "1,0")), NEW, "write them with a point"),
        (examples(("a", "1"), ("b", "1.0")), NEW, "'1' and '1.0' are one number and two classes"),
        (CLEAN, examples(("", "no"), ("b", "yes")), "1 of 2 scored texts are empty"),
        (
            Examples(("a", "b"), ("", "c"), np.array([0, 1]), ("no", "yes"), "data"),
            NEW,
            "1 of 2 second training texts are empty",
        ),
    ],
)
def test_each_likely_mistake_is_told(train, scored, said):
    assert any(said in line for line in remarked(train, scored))


def test_ratings_of_five_stars_are_no_mistake():
    ratings = examples(*((f"text {i}", str(i)) for i in range(1, 6)))
    assert remarked(ratings, NEW) == []


def test_rows_are_cut_where_they_are_longer_and_not_where_they_just_fit(tiny_model):
    tokenizer = Encoder.from_pretrained(tiny_model, num_labels=2).tokenizer
    fits, over = " ".join(["good"] * 6), " ".join(["good"] * 7)  # and two special tokens
    texts = Examples((fits, over, "bad", over))
    assert cut_rows(texts, tokenizer, encode(texts, tokenizer, 8), 8) == 2
    pairs = Examples(("good", over), ("bad", "bad"))
    assert cut_rows(pairs, tokenizer, encode(pairs, tokenizer, 8), 8) == 1
    assert cut_rows(texts, tokenizer, encode(texts, tokenizer, 16), 16) == 0
