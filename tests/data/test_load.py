"""Files and folders become examples by written-down rules."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from blomix.data import Examples, duplicates, leakage, load
from blomix.errors import InputError

SHARED = Path(os.environ.get("BLOMIX_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"no labelled text at {SHARED}; set BLOMIX_DATA"
)


@pytest.fixture
def write(tmp_path):
    def to(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


def test_csv_with_quotes_line_ends_and_mark(write):
    path = write(
        "a.csv",
        '\ufefftext,label\r\n"a ""quoted"", comma",yes\n"two\nlines",no\r"NA",yes\n\nNULL,no',
    )
    examples = load(path)
    assert examples.texts == ('a "quoted", comma', "two\nlines", "NA", "NULL")
    assert examples.label_names == ("no", "yes")
    assert examples.labels.tolist() == [1, 0, 1, 0]
    assert (examples.name, examples.metric, examples.source) == ("a", "accuracy", str(path))


def test_the_same_rows_from_every_format(write, tmp_path):
    rows = [("a\tb", "c", 1), ('say "x"', "", 0), ("é ☃", "line\nend", 1)]
    quoted = [["one", "two", "label"], *rows]

    def separated(separator):
        cell = lambda x: '"' + str(x).replace('"', '""') + '"'  # noqa: E731
        return "\n".join(separator.join(map(cell, row)) for row in quoted)

    lines = "\n".join(json.dumps(dict(zip(quoted[0], row, strict=True))) for row in rows)
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = tmp_path / "a [1] *.parquet"
    pq.write_table(pa.table(dict(zip(quoted[0], zip(*rows, strict=True), strict=True))), parquet)
    paths = [
        write("a.csv", separated(",")),
        write("a.tsv", separated("\t")),
        write("a.jsonl", lines),
        parquet,
    ]
    loaded = [load(path, text="one", text_pair="two") for path in paths]
    assert len({examples.digests for examples in loaded}) == 1
    for examples in loaded:
        assert examples.texts == tuple(row[0] for row in rows)
        assert examples.pairs == tuple(row[1] for row in rows)
        assert examples.label_names == ("0", "1")


@pytest.mark.parametrize(
    ("cells", "names", "labels"),
    [
        (["10", "2", "-1"], ("-1", "2", "10"), [2, 1, 0]),
        (["v10", "v2", "v2"], ("v2", "v10"), [1, 0, 0]),
        (["1.0", "1", "0"], ("0", "1", "1.0"), [2, 1, 0]),
        (["pos ", " pos", "neg"], ("neg", "pos"), [1, 1, 0]),
        (["0.5", "2", "-1e1"], None, [0.5, 2.0, -10.0]),
        (["1_0", "2.5x", "2"], ("2", "1_0", "2.5x"), [1, 2, 0]),
        (["v" + "1" * 5000, "v02", "v1"], ("v1", "v02", "v" + "1" * 5000), [2, 1, 0]),
        (["②", "①", "x²"], ("x²", "①", "②"), [2, 1, 0]),  # digits to Python, and no numbers
    ],
)
def test_labels_decide_by_the_rule(write, cells, names, labels):
    examples = load(write("a.csv", "text,label\n" + "".join(f"t,{cell}\n" for cell in cells)))
    assert examples.label_names == names
    assert examples.labels.tolist() == labels
    assert examples.is_regression == (names is None)
    assert examples.metric == ("spearman" if names is None else "accuracy")


def test_regression_and_classes_can_be_told(write):
    whole = write("a.csv", "text,score\na,1\nb,5\n")
    assert load(whole, regression=True).labels.tolist() == [1.0, 5.0]
    parts = write("b.csv", "text,score\na,1.5\nb,5\n")
    assert load(parts, regression=False).label_names == ("1.5", "5")


def test_validation_takes_the_training_classes(write):
    train = load(write("train.csv", "text,label\na,b\nb,a\nc,c\n"))
    path = write("validation.csv", "text,label\nx,c\n")
    assert load(path, label_names=train.label_names).labels.tolist() == [2]
    with pytest.raises(
        InputError, match=r"row 1: expected one of training's classes 'a', 'b', 'c', found"
    ):
        load(write("validation.csv", "text,label\nx,d\n"), label_names=train.label_names)


def test_a_column_that_a_later_json_line_has_is_a_column(write):
    lines = '{"text": "a", "label": 0}\n{"text": "b", "text_pair": "c", "label": 1}\n'
    with pytest.raises(InputError, match=r"row 1 \(line 1\): no 'text_pair'"):
        load(write("a.jsonl", lines))


def test_unlabelled_text(write):
    path = write("a.csv", "id,text\n1,x\n2,y\n")
    with pytest.raises(InputError, match="--label"):
        load(path)
    examples = load(path, labelled=False, label_names=("n", "y"))
    assert (examples.labels, examples.label_names) == (None, ("n", "y"))
    assert load(path, labelled=False, regression=True).metric == "spearman"


def test_folder_of_splits_named_like_a_task(write):
    write("cola/train.tsv", "source\tlabel\tsentence\nx\t1\tgood\nx\t0\tbad it\n")
    folder = write("cola/validation.tsv", "sentence\tlabel\nfine\tacceptable\n").parent
    train, validation = load(folder), load(folder, split="validation")
    assert train.label_names == validation.label_names == ("unacceptable", "acceptable")
    assert (train.labels.tolist(), validation.labels.tolist()) == ([1, 0], [1])
    assert (train.metric, train.name) == ("mcc", "cola")
    file = load(folder / "train.tsv", label_names=train.label_names, regression=False)
    assert (file.labels.tolist(), file.metric) == ([1, 0], "mcc")
    assert load(folder / "train.tsv").label_names == train.label_names
    with pytest.raises(InputError, match=r"no file for the split 'test'; it has 'train.tsv', "):
        load(folder, split="test")


def test_an_unreachable_hub_is_one_clear_message(monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(InputError, match=r"nyu-mll/glue:cola.*cannot be reached.*no route"):
        load("cola")


def test_hub_data_are_read_at_their_commit_with_their_class_names(monkeypatch):
    import datasets
    import huggingface_hub

    asked = []

    def load_dataset(repository, config, *, split, revision):
        asked.append((repository, config, split, revision))
        names = datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])
        text = datasets.Value("string")
        features = {"premise": text, "hypothesis": text, "label": names, "idx": text}
        rows = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 0], "idx": ["0", "1"]}
        return datasets.Dataset.from_dict(rows, datasets.Features(features))

    info = huggingface_hub.hf_api.DatasetInfo(
        id="x", sha="abc", private=False, downloads=0, likes=0, tags=[]
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    examples = load("mnli", split="validation")
    assert asked == [("nyu-mll/glue", "mnli", "validation_matched", "abc")]
    assert examples.label_names == ("entailment", "neutral", "contradiction")
    assert examples.labels.tolist() == [2, 0]
    assert examples.pairs == ("c", "d")
    assert examples.source == "nyu-mll/glue:mnli@abc validation_matched"
    load("own/er:sub", split="train")
    assert asked[-1] == ("own/er", "sub", "train", "abc")


def test_digests_are_the_documented_hash_and_unambiguous():
    examples = Examples(("a", "a b"), ("b c", "c"), np.array([0, 1]), ("n", "y"))
    expected = hashlib.sha256(b'["a", "b c", "n"]').hexdigest()[:16]
    assert examples.digests[0] == expected
    assert len(set(examples.text_digests)) == 2
    renamed = Examples(("a",), ("b c",), np.array([0]), ("m", "y"))
    assert renamed.digests[0] != examples.digests[0]
    assert renamed.text_digests[0] == examples.text_digests[0]
    assert examples.select([1]).digests == examples.digests[1:]


def test_duplicates_and_leakage_are_counted():
    names = ("n", "y")
    train = Examples(("a", "b", "b", "c"), None, np.array([0, 0, 1, 1]), names)
    other = Examples(("b", "c", "c", "d"), None, np.array([1, 0, 0, 0]), names)
    assert duplicates(train) == {"rows": 1, "conflicting_texts": 1}
    assert leakage(train, other) == {"rows": 3, "texts": 2, "conflicting": 2}


@needs_shared
def test_shared_tasks_load_without_flags():
    sizes = {"cola": 8551, "mrpc": 3668, "rte": 2490, "sst2": 20000, "stsb": 5749, "wnli": 635}
    metrics = {"cola": "mcc", "mrpc": "f1", "stsb": "spearman"}
    for task, size in sizes.items():
        examples = load(SHARED / task)
        assert len(examples) == size
        assert examples.metric == metrics.get(task, "accuracy")
    for task in ("mnli", "qnli"):
        assert load(SHARED / task, split="validation").pairs is not None
    assert np.bincount(load(SHARED / "mrpc").labels).tolist() == [1194, 2474]


@needs_shared
def test_sixteen_sentences_of_cola_are_in_both_splits():
    train, validation = load(SHARED / "cola"), load(SHARED / "cola", split="validation")
    assert leakage(train, validation)["texts"] == 16


def test_an_empty_row_of_one_column_keeps_its_place(write):
    found = load(write("a.csv", "\ntext\none\n\n\ntwo\n\n"), text="text", labelled=False)
    assert found.texts == ("one", "", "", "two")
