"""Subsamples, hold-outs, folds and batches: stratified, seeded, stateless."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blomix.data import Examples, batch_rows, batches, encode, folds, holdout, subsample
from blomix.errors import InputError


def classes(*counts: int, seed: int = 0) -> Examples:
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(seed).permutation(labels)
    names = tuple(map(str, range(len(counts))))
    return Examples(tuple(f"t{i}" for i in range(len(labels))), None, labels, names)


def targets(n: int) -> Examples:
    return Examples(tuple(map(str, range(n))), None, np.random.default_rng(0).random(n))


def test_subsample_keeps_shares_and_order():
    drawn = subsample(classes(700, 200, 100), 50, seed=3)
    assert np.bincount(drawn.labels).tolist() == [35, 10, 5]
    places = [int(text[1:]) for text in drawn.texts]
    assert places == sorted(places)
    assert subsample(classes(700, 200, 100), 50, seed=3).texts == drawn.texts
    assert subsample(classes(700, 200, 100), 50, seed=4).texts != drawn.texts


def test_a_rare_class_is_kept():
    assert np.bincount(subsample(classes(990, 9, 1), 10, seed=0).labels).tolist() == [8, 1, 1]
    kept, held = holdout(classes(99, 1), 0.2, seed=0)
    labels = classes(99, 1).labels
    assert np.bincount(labels[held], minlength=2).tolist() == [20, 0]
    assert np.bincount(labels[kept]).tolist() == [79, 1]


@pytest.mark.parametrize("rows", [3, 4])
def test_no_class_is_left_out_by_every_seed(rows):
    examples = classes(*[rows] * 60)
    held = [examples.labels[holdout(examples, 0.2, seed)[1]] for seed in range(30)]
    outer = [examples.labels[part] for _, part in folds(examples, 30, 0, scheme="independent")]
    drawn = [subsample(examples, 45, seed).labels for seed in range(30)]
    for labels in (held, outer, drawn):
        assert len(np.unique(np.concatenate(labels))) == 60


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    k=st.integers(2, 7),
    seed=st.integers(0, 2**40),
)
def test_partition_is_one_and_stratified(counts, k, seed):
    examples = classes(*counts)
    if len(examples) < k:
        with pytest.raises(InputError, match="fewer than"):
            folds(examples, k, seed)
        return
    parts = folds(examples, k, seed)
    outer = np.concatenate([outer for _, outer in parts])
    assert sorted(outer) == list(range(len(examples)))
    for inner, outer in parts:
        assert sorted(np.concatenate([inner, outer])) == list(range(len(examples)))
        share = np.bincount(examples.labels[outer], minlength=len(counts))
        assert (abs(share - np.array(counts) / k) < 1).all()
    sizes = [len(outer) for _, outer in parts]
    assert max(sizes) - min(sizes) <= 1


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    n=st.integers(1, 60),
    seed=st.integers(0, 2**40),
)
def test_subsample_is_within_one_of_its_share(counts, n, seed):
    examples = classes(*counts)
    n = min(n, len(examples))
    drawn = subsample(examples, n, seed)
    assert len(drawn) == n
    assert len(set(drawn.texts)) == n
    got = np.bincount(drawn.labels, minlength=len(counts))
    share = n * np.array(counts) / sum(counts)
    if n >= len(counts):
        assert (got >= 1).all()
    if (share >= 1).all():
        assert (abs(got - share) < 1 + 1e-9).all()


def test_holdout_is_a_disjoint_fifth():
    examples = classes(60, 40)
    kept, held = holdout(examples, 0.2, seed=1)
    assert sorted(np.concatenate([kept, held])) == list(range(100))
    assert np.bincount(examples.labels[held]).tolist() == [12, 8]


def test_regression_is_stratified_by_quantiles():
    examples = targets(100)
    order = np.argsort(np.argsort(examples.labels))
    for _, outer in folds(examples, 5, seed=0):
        assert np.bincount(order[outer] // 10).tolist() == [2] * 10


def test_independent_folds_overlap_and_are_of_the_fraction():
    draws = folds(classes(50, 50), 5, seed=0, scheme="independent", fraction=0.2)
    assert [len(outer) for _, outer in draws] == [20] * 5
    assert len(set(np.concatenate([outer for _, outer in draws]))) < 100
    assert len({tuple(outer) for _, outer in draws}) == 5


def test_one_fold_is_one_holdout():
    [(inner, outer)] = folds(classes(50, 50), 1, seed=0)
    assert (len(inner), len(outer)) == (80, 20)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: subsample(e, 7, 0), "7 examples asked for, it has 6"),
        (lambda e: subsample(e, 0, 0), "0 examples asked for"),
        (lambda e: folds(e, 7, 0), "6 rows are fewer than 7 folds"),
        (lambda e: folds(e, 0, 0), "at least one fold"),
        (lambda e: folds(e, 2, 0, scheme="random"), "partition or independent"),
        (lambda e: holdout(e, 1.0, 0), "between 0 and 1"),
        (lambda e: holdout(classes(1, 1), 0.5, 0), "too few"),
    ],
)
def test_bad_draws_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(classes(3, 3))


@given(
    n=st.integers(1, 50), size=st.integers(1, 20), seed=st.integers(0, 99), epoch=st.integers(0, 3)
)
def test_an_epoch_is_a_permutation_filled_up_from_its_start(n, size, seed, epoch):
    steps = -(-n // size)
    rows = np.concatenate(
        [batch_rows(n, size, seed=seed, fold=1, step=epoch * steps + step) for step in range(steps)]
    )
    assert len(rows) == steps * size
    assert sorted(rows[:n]) == list(range(n))
    assert rows[n:].tolist() == np.resize(rows[:n], len(rows))[n:].tolist()


def test_batches_depend_on_seed_fold_and_epoch():
    first = batch_rows(100, 100, seed=0, fold=0, step=0).tolist()
    for other in ({"seed": 1}, {"fold": 1}, {"step": 1}):
        rows = batch_rows(100, 100, **{"seed": 0, "fold": 0, "step": 0, **other}).tolist()
        assert rows != first
    with pytest.raises(InputError, match="negative"):
        batch_rows(10, 2, seed=-1, fold=0, step=0)


class Words:
    """A tokenizer's interface on white space: enough to see lengths, pairs and cuts."""

    model_max_length = 64
    pad_token_id, pad_token_type_id, padding_side = 0, 0, "right"

    def __call__(self, texts, pairs=None, *, truncation, max_length, return_attention_mask):
        assert truncation
        assert return_attention_mask
        joined = (
            texts if pairs is None else [f"{a} | {b}" for a, b in zip(texts, pairs, strict=True)]
        )
        ids = [[len(word) for word in text.split()][:max_length] for text in joined]
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}


@pytest.mark.parametrize(
    ("words", "max_length", "length"), [(3, 64, 16), (16, 64, 16), (17, 64, 32), (60, 50, 50)]
)
def test_length_is_the_smallest_multiple_that_covers(words, max_length, length):
    examples = Examples(("a", "b " * words), None, np.array([0.5, 1.0]))
    arrays = encode(examples, Words(), max_length)
    assert arrays["input_ids"].shape == (2, length)
    assert arrays["input_ids"].dtype == np.int32
    assert arrays["attention_mask"].sum(axis=1).tolist() == [1, min(words, max_length)]
    assert arrays["labels"].dtype == np.float32


def test_pairs_are_encoded_together_and_bad_lengths_refused():
    examples = Examples(("a b",), ("c",))
    assert encode(examples, Words(), 64)["attention_mask"].sum() == 4
    for max_length in (7, 65):
        with pytest.raises(InputError, match="8 to 64 tokens"):
            encode(examples, Words(), max_length)


@pytest.fixture
def tokenizer():
    directory = os.environ.get("BLOMIX_MINILM")
    if directory is None:
        pytest.skip("set BLOMIX_MINILM to a directory of all-MiniLM-L6-v2")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_padded_as_the_tokenizer_pads_them_however_many_there_are(
    tokenizer, side, monkeypatch
):
    tokenizer.padding_side = side
    texts = [f"{'good ' * n}film" for n in (3, 20, 1, 7, 2)]
    own = tokenizer(texts, padding="max_length", max_length=32, return_tensors="np")
    monkeypatch.setattr(batches, "_CHUNK", 2)
    arrays = encode(Examples(tuple(texts)), tokenizer, 64)
    assert arrays.keys() == own.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, own[name])


def test_a_real_tokenizer_marks_the_pair_and_cuts_the_longer_text(tokenizer):
    examples = Examples(("good " * 40, "good"), ("bad", "bad " * 3))
    arrays = encode(examples, tokenizer, 20)
    assert arrays["input_ids"].shape == (2, 20)
    assert arrays["token_type_ids"][0].tolist() == [0] * 18 + [1, 1]
    assert arrays["attention_mask"].sum(axis=1).tolist() == [20, 7]
    assert encode(examples, tokenizer, 128)["input_ids"].shape == (2, 48)
