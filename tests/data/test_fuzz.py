"""Whatever the bytes: examples that hold together, or one InputError of one line."""

import io
import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from blomix.data import Examples, load
from blomix.errors import InputError
from tests.fuzz import RUNS, mutated

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
cells = st.text(max_size=12) | st.sampled_from(["", " ", "NA", "nan", "0", "1", "2.5", "-0", "x"])
columns = st.lists(
    st.sampled_from(["text", "label", "sentence", "score", "id", ""]) | cells,
    min_size=1,
    max_size=4,
)
options = st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from(["text", "sentence", "", "a"]),
        "text_pair": st.sampled_from(["sentence", "id"]),
        "label": st.sampled_from(["label", "score"]),
        "label_names": st.sampled_from([("0", "1"), ("x",), ("1", "1"), ()]),
        "regression": st.booleans(),
        "labelled": st.booleans(),
    },
)


@st.composite
def separated(draw) -> bytes:
    """Nearly a table: most rows fit, cells are quoted or not."""
    names = draw(columns)
    separator = draw(st.sampled_from([",", "\t"]))
    quoted = draw(st.booleans())
    width = st.integers(max(0, len(names) - 1), len(names) + 1) | st.just(len(names))

    def line(row: list[str]) -> str:
        return separator.join('"' + c.replace('"', '""') + '"' if quoted else c for c in row)

    body = draw(
        st.lists(width.flatmap(lambda n: st.lists(cells, min_size=n, max_size=n)), max_size=6)
    )
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join(map(line, [names, *body])).encode(errors="surrogatepass")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | cells,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(cells, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def json_lines(draw) -> bytes:
    """Objects that mostly have a text and a label, and sometimes something else."""
    sound = st.fixed_dictionaries({"text": cells | json_values, "label": cells | json_values})
    records = draw(st.lists(sound | json_values, max_size=6))
    ascii_only = draw(st.booleans())
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    return "\n".join(lines).encode(errors="surrogatepass")


@st.composite
def parquet(draw) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = draw(st.integers(0, 5))
    column = st.sampled_from(
        [["t"] * n, [None] * n, list(range(n)), [0.5] * n, [b"x"] * n, [["a"]] * n, [True] * n]
    )
    file = io.BytesIO()
    table = pa.table({"text": ["text"] * n, "label": draw(column), draw(cells): draw(column)})
    pq.write_table(table, file, compression=draw(st.sampled_from(["none", "zstd"])))
    return file.getvalue()


def check(data: bytes, suffix: str, chosen: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"d{suffix}")
        path.write_bytes(data)
        try:
            examples = load(path, **chosen)
        except InputError as error:
            examples, message = None, str(error)
    if examples is None:
        assert message.isprintable()
        assert len(message) < 2000
        return
    assert isinstance(examples, Examples)
    assert 0 < len(examples) == len(examples.digests)
    assert all(isinstance(text, str) for text in examples.texts)
    "".join(examples.texts).encode()
    if examples.labels is not None and examples.label_names is not None:
        assert 0 <= examples.labels.min() <= examples.labels.max() < len(examples.label_names)
        assert len(set(examples.label_names)) == len(examples.label_names)


@RUNS
@given(st.binary(max_size=200), st.sampled_from(SUFFIXES), options)
def test_any_bytes(data, suffix, chosen):
    check(data, suffix, chosen)


@RUNS
@given(mutated(separated()), st.sampled_from([".csv", ".tsv"]), options)
def test_nearly_tables(data, suffix, chosen):
    check(data, suffix, chosen)


@RUNS
@given(mutated(json_lines()), options)
def test_nearly_json_lines(data, chosen):
    check(data, ".jsonl", chosen)


@RUNS
@given(mutated(parquet()), options)
def test_nearly_parquet(data, chosen):
    check(data, ".parquet", chosen)


@RUNS
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_what_a_strict_writer_wrote_is_read_back(pairs):
    """The other side: a well-formed table is never refused for its text alone."""
    import csv

    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "label"), *((text, "y") for text, _ in pairs), ("t", "n")])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.csv")
        path.write_bytes(file.getvalue().encode(errors="surrogatepass"))
        examples = load(path)
    assert examples.texts == (*(text for text, _ in pairs), "t")
