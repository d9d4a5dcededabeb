"""The catalogue of bad and hostile data: one line that says what and where, or it is handled."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from blomix.data import load
from blomix.errors import InputError

PAIR = {"text": "a", "label": "x"}


@dataclass(frozen=True)
class Case:
    """`content` is written to `file` (or makes it, where it is a function of the path)."""

    name: str
    content: bytes | str | Callable[[Path], object]
    message: str | None  # part of the error, or None where the data are read
    file: str = "d.csv"
    options: dict = field(default_factory=dict)


def rows(*lines: str) -> str:
    return "text,label\n" + "".join(line + "\n" for line in lines)


def objects(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def labels(*cells: str) -> str:
    return rows(*(f"t,{cell}" for cell in cells))


def parquet(**columns) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return write


def damaged_parquet(cut: slice) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        parquet(text=["a", "b"], label=[0, 1])(path)
        path.write_bytes(path.read_bytes()[cut])

    return write


def repeated_text(path: Path) -> None:
    import pyarrow as pa

    once = pa.array(["x" * 2**20])
    parquet(
        text=pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), once),
        label=["a", "b"] * 50_000,
    )(path)


def folder(**files: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.mkdir()
        for name, content in files.items():
            (path / name.replace("__", ".")).write_text(content)

    return make


def unreadable(path: Path) -> None:
    path.write_text(rows("a,x", "b,y"))
    path.chmod(0)


GOOD = rows("a,x", "b,y")

SHAPES = [
    Case("empty file", "", "d.csv: the file is empty"),
    Case("header alone", "text,label\n", "no rows below the header"),
    Case("byte-order mark alone", b"\xef\xbb\xbf", "the file is empty"),
    Case("blank lines alone", "\n\r\n\r", "the file is empty"),
    Case(
        "short row", rows("a,x", "b"), "row 2 (line 3): expected the 2 cells of the header, found 1"
    ),
    Case("long row", rows("a,x,z"), "row 1 (line 2): expected the 2 cells of the header, found 3"),
    Case(
        "unquoted comma",
        rows("a,x", "b, c,y"),
        "row 2 (line 3): expected the 2 cells of the header, found 3",
    ),
    Case(
        "ragged below a long cell",
        rows('"a\n\nb",x', "c"),
        "row 2 (line 5): expected the 2 cells of the header, found 1",
    ),
    Case("quote never closed", rows("a,x", '"b,y', "c,x"), "line 3: unexpected end of data"),
    Case("text after a quote", rows('"a"b,x'), "line 2: ',' expected after '\"'"),
    Case("a quote in the middle", rows('say "a",x', "b,y"), None),
    Case("old Macintosh line ends", "text,label\ra,x\rb,y", None),
    Case("mixed line ends", "text,label\r\na,x\nb,y\rc,x", None),
    Case("blank lines between", "text,label\n\na,x\n\n\nb,y\n\n", None),
    Case("no line end at the end", "text,label\na,x\nb,y", None),
    Case("NUL in a text", rows("a\0b,x", "c,y"), None),
    Case(
        "separated by semicolons", "text;label\na;x\n", "one column, 'text;label', whose name has"
    ),
    Case(
        "tabs in a .csv", "text\tlabel\na\tx\n", "separated by commas, those of a .tsv file by tabs"
    ),
    Case(
        "semicolons, columns told",
        "comment;kind\na;x\n",
        "whose name has ';' in it",
        options={"text": "comment", "label": "kind"},
    ),
    Case("no header", "nice film,good\nbad,poor\n", "it has 'nice film', 'good'"),
    Case("a text of a megabyte", rows("a" * 2**20 + ",x", "b,y"), None),
    Case("a text of 5 MiB", rows("a" * 5 * 2**20 + ",x"), "field larger than field limit"),
    Case("a million columns", ",".join(map(str, range(10**6))) + "\n", "1000000 columns, at most"),
    Case(
        "a million cells",
        rows("a,x", "," * 10**6),
        "row 2 (line 3): expected the 2 cells of the header, found 1000001",
    ),
    Case("ten million separators", rows("," * 10**7), "line 2: 10000000 separators in one line"),
    Case("many blank lines", rows("a,x", "b,y", "\n" * 10**5), None),
    Case("a thousand quotes", rows('"' * 1000 + ",x", "b,y"), None),
    Case("a thousand and one quotes", rows('"' * 1001 + ",x"), "line 2: unexpected end of data"),
]
ENCODINGS = [
    Case("Latin-1", b"text,label\na,x\ncaf\xe9,y\n", "line 3: not UTF-8: byte 0xe9 at offset 18"),
    Case("Latin-1 below a mark", b"\xef\xbb\xbftext\n\xe9", "byte 0xe9 at offset 8"),
    Case("cut in a character", rows("a,x").encode() + "é".encode()[:1], "byte 0xc3 at offset 15"),
    Case("overlong encoding", b"text,label\n\xc0\xaf,x\n", "not UTF-8: byte 0xc0"),
    Case("encoded surrogate", b"text,label\n\xed\xa0\x80,x\n", "not UTF-8: byte 0xed"),
    Case("UTF-16", GOOD.encode("utf-16"), "encoded as UTF-16; save it as UTF-8"),
    Case("UTF-16 without a mark", GOOD.encode("utf-16-le"), "no column with a text column's name"),
    Case("UTF-32", GOOD.encode("utf-32"), "encoded as UTF-16"),
    Case("UTF-8 with a mark", GOOD.encode("utf-8-sig"), None),
    Case("two marks", "\ufeff\ufeff" + GOOD, r"it has '\ufefftext', 'label'"),
    Case("gzip", b"\x1f\x8b\x08\x00", "packed by gzip, and no text; unpack it"),
    Case("an Excel file", b"PK\x03\x04\x14\x00", "a spreadsheet or another zip archive"),
    Case("right-to-left and zero-width text", rows("\u202eabc\u200b,x", "שלום,y"), None),
    Case("every control character", rows(*(f'"{chr(i)}",x' for i in range(32)), "b,y"), None),
]
COLUMNS = [
    Case("unknown column", GOOD, "no column 'txt'; did you mean 'text'?", options={"text": "txt"}),
    Case("unknown label column", GOOD, "no column 'y'; it has", options={"label": "y"}),
    Case("unknown pair", GOOD, "no column 'b'", options={"text": "text", "text_pair": "b"}),
    Case("a pair alone", GOOD, "'text' needs --text", options={"text_pair": "text"}),
    Case("one column twice", GOOD, "asked for twice", options={"text": "label", "label": "label"}),
    Case("text column twice", "text,text,label\na,b,x\n", "'text' is there twice; rename"),
    Case("label column twice", "text,label,label\na,b,x\n", "'label' is there twice; rename"),
    Case("the told column twice", "a,a,label\nx,y,z\n", "there twice", options={"text": "a"}),
    Case("two texts", "text,review,label\na,b,x\n", "several columns with a text"),
    Case("two labels", "text,label,class\na,x,y\n", "several columns with a label"),
    Case("no text column", "title,label\na,x\n", "say which with --text (and --text-pair)"),
    Case("no label column", "text,colour\na,x\n", "beside the text it has 'colour'; say which"),
    Case("text alone", "text\na\n", "beside the text it has nothing"),
    Case("nameless columns", ",\na,x\n", "it has '', ''"),
    Case("a line end in a name", '"a\nb",label\nx,y\n', r"it has 'a\nb', 'label'"),
    Case("columns in capitals", "TEXT, Label \na,x\nb,y\n", None),
]
LABELS = [
    Case("empty label", labels("x", "", "y"), "row 2: the label is missing"),
    Case("blank label", labels("x", "  ", "y"), "row 2: the label is missing"),
    Case("one class", labels("x", "x"), "all 2 labels are 'x'; expected at least two classes"),
    Case("one row", labels("x"), "all 1 labels are 'x'"),
    Case("a class a row", labels(*map(str, range(1001))), "1001 different labels, at most 1000"),
    Case("twins", labels("pos", "pos\u200b"), r"'pos' and 'pos\u200b' look the same"),
    Case("composed and not", labels("é", "e\u0301"), r"'e\u0301' and '\xe9' look the same"),
    Case(
        "missing among numbers", labels("0", "nan", "1"), "row 2: the label 'nan' is not a finite"
    ),
    Case(
        "a word among fractions", labels("2.5", "good"), "row 2: the label 'good' is not a finite"
    ),
    Case("infinite among fractions", labels("0.5", "-inf"), "row 2: the label '-inf'"),
    Case("too large a number", labels("0.5", "1e999"), "row 2: the label '1e999' is not a finite"),
    Case("underscored number", labels("0.5", "1_0"), "row 2: the label '1_0' is not a finite"),
    Case("full-width digits", labels("0.5", "１"), "row 2: the label '１' is not a finite"),
    Case(
        "decimal commas",
        labels('"2,5"', '"3,5"'),
        "expected a finite number",
        options={"regression": True},
    ),
    Case(
        "words for a regression",
        labels("1", "b"),
        "row 2: expected a finite number as label of a",
        options={"regression": True},
    ),
    Case("no scatter", labels("2.5", "2.5"), None),  # to be scored on, if not to be trained on
    Case("no scatter, told", labels("1", "1"), None, options={"regression": True}),
    Case(
        "class training lacks",
        labels("x", "z"),
        "row 2: expected one of training's classes 'x', 'y', found the label 'z'",
        options={"label_names": ("x", "y")},
    ),
    Case(
        "classes and regression",
        GOOD,
        "give one of the two",
        options={"label_names": ("x", "y"), "regression": True},
    ),
    Case("texts all empty", rows(",x", " ,y"), "all 2 texts are empty"),
    Case("an empty text", rows(",x", "b,y"), None),
    Case("paths as labels", labels("../../etc/passwd", "/", "..", "CON"), None),
    Case("script as label", labels("<script>alert(1)</script>", "{{ 7 * 7 }}"), None),
    Case("formulas", rows("=cmd|' /C calc'!A0,=1", "@a,+x"), None),
    Case("a label of 10 kB", labels("x" * 10_000, "y"), None),
]
JSON = [
    Case(
        "array of objects",
        json.dumps([PAIR]),
        "a JSON array; expected one JSON object a line",
        "d.json",
    ),
    Case("a number", "1\n", "found int 1", "d.jsonl"),
    Case(
        "a string",
        objects(PAIR, "x"),
        "line 2: expected one JSON object a line, found str",
        "d.jsonl",
    ),
    Case("null", "null\n", "found NoneType", "d.jsonl"),
    Case("cut short", '{"text": "a", "lab', "line 1: expected one JSON object", "d.jsonl"),
    Case("two objects a line", '{"text": "a"} {"text": "b"}', "Extra data", "d.jsonl"),
    Case(
        "an object over lines", json.dumps(PAIR, indent=1), "line 1: expected one JSON", "d.jsonl"
    ),
    Case("single quotes", "{'text': 'a'}", "line 1: expected one JSON object", "d.jsonl"),
    Case("nested a million deep", '{"a":' * 10**6, "recursion", "d.jsonl"),
    Case("objects nested deep", '{"a":' * 10**5, "recursion", "d.jsonl"),
    Case(
        "a number of 5000 digits",
        '{"text": "a", "label": ' + "1" * 5000 + "}",
        "Exceeds the limit",
        "d.jsonl",
    ),
    Case(
        "a key twice",
        '{"text": "a", "text": "b", "label": "x"}',
        "the key 'text' is there twice",
        "d.jsonl",
    ),
    Case("no keys", "{}\n", "no column with a text column's name", "d.jsonl"),
    Case(
        "a key missing",
        objects(PAIR, {"text": "b"}),
        "row 2 (line 2): no 'label'; it has 'text'",
        "d.jsonl",
    ),
    Case(
        "text null",
        objects({"text": None, "label": "x"}),
        "row 1, column 'text': no text, but null",
        "d.jsonl",
    ),
    Case(
        "text a number",
        objects(PAIR, {"text": 5, "label": "y"}),
        "row 2, column 'text': no text, but int 5",
        "d.jsonl",
    ),
    Case(
        "text a list", objects({"text": ["a"], "label": "x"}), "no text, but list ['a']", "d.jsonl"
    ),
    Case(
        "label null",
        objects(PAIR, {"text": "b", "label": None}),
        "row 2: the label is missing",
        "d.jsonl",
    ),
    Case(
        "label a list",
        objects({"text": "b", "label": [1]}),
        "row 1: expected a string or a number as label, found list",
        "d.jsonl",
    ),
    Case(
        "label NaN",
        objects({"text": "a", "label": 0.5}, {"text": "b", "label": float("nan")}),
        "row 2: the label is missing",
        "d.jsonl",
    ),
    Case(
        "half a surrogate pair",
        objects({"text": "a\ud800", "label": "x"}),
        "half of a surrogate pair",
        "d.jsonl",
    ),
    Case(
        "half a pair as label",
        objects(PAIR, {"text": "a", "label": "\udfff"}),
        "is not valid Unicode",
        "d.jsonl",
    ),
    Case(
        "truth values",
        objects({"text": "a", "label": True}, {"text": "b", "label": False}),
        None,
        "d.jsonl",
    ),
    Case(
        "line separators in a text",
        objects({"text": "a\u2028\x85b", "label": "x"}, {"text": "b", "label": "y"}),
        None,
        "d.jsonl",
    ),
    Case(
        "a line of 17 MiB", '{"a": "' + "a" * 17 * 2**20, "characters, at most 16777216", "d.jsonl"
    ),
    Case("a pickle", b"\x80\x04K\x01.", "not UTF-8: byte 0x80 at offset 0", "d.jsonl"),
]
PARQUET = [
    Case("text file", GOOD, "not a Parquet file", "d.parquet"),
    Case("cut in half", damaged_parquet(slice(0, 200)), "not a Parquet file", "d.parquet"),
    Case("tail alone", damaged_parquet(slice(300, None)), "not a Parquet file", "d.parquet"),
    Case("no rows", parquet(text=[], label=[]), "no rows", "d.parquet"),
    Case(
        "binary text",
        parquet(text=[b"\xff"], label=[1]),
        "column 'text': expected strings or numbers, found 'binary'",
        "d.parquet",
    ),
    Case(
        "lists as text",
        parquet(text=[["a"]], label=[1]),
        "expected strings or numbers, found 'list",
        "d.parquet",
    ),
    Case(
        "numbers as text",
        parquet(text=[1], label=[1]),
        "row 1, column 'text': no text, but int 1",
        "d.parquet",
    ),
    Case(
        "text missing",
        parquet(text=["a", None], label=[0, 1]),
        "row 2, column 'text': no text, but null",
        "d.parquet",
    ),
    Case(
        "label missing",
        parquet(text=["a", "b"], label=[0, None]),
        "row 2: the label is missing",
        "d.parquet",
    ),
    Case("100 GB out of few bytes", repeated_text, "unpacks to more than 256 MiB", "d.parquet"),
    Case(
        "many columns",
        parquet(**{f"c{i}": [1] for i in range(10_001)}),
        "10001 columns",
        "d.parquet",
    ),
    Case(
        "dots in names",
        parquet(**{"a.b": ["x", "y"], "label": [0, 1]}),
        None,
        "d.parquet",
        {"text": "a.b"},
    ),
]
PATHS = [
    Case("missing file", lambda path: None, "d.csv: no such file"),
    Case(
        "missing, a name with a line end", lambda path: None, r"d\nx.csv': no such file", "d\nx.csv"
    ),
    Case("a name too long", lambda path: None, "File name too long", "d" * 300 + ".csv"),
    Case("a NUL in the name", lambda path: None, r"d\x00.csv", "d\0.csv"),
    Case("unknown suffix", GOOD, "found '.txt'; rename it or convert it", "d.txt"),
    Case("no suffix", GOOD, "found 'no suffix'", "data"),
    Case("a pickle by suffix", b"\x80\x04K\x01.", "found '.pkl'", "d.pkl"),
    Case("a zip of a table", b"PK\x03\x04", "found '.zip'", "d.csv.zip"),
    Case("suffix in capitals", GOOD, None, "d.CSV"),
    Case("folder without files", folder(), "no file for the split 'train'; it has nothing", "d"),
    Case("folder called like a file", folder(), "no file for the split 'train'", "d.csv"),
    Case(
        "two files for a split",
        folder(train__csv=GOOD, train__tsv=GOOD),
        "several files for the split 'train'",
        "d",
    ),
    Case(
        "split out of the folder",
        folder(train__csv=GOOD),
        "no file for the split '../train'",
        "d",
        {"split": "../train"},
    ),
    Case(
        "task folder, other classes",
        folder(train__csv=GOOD),
        "row 1: expected one of the classes of the task in the folder's name, 'unacceptable', ",
        "cola",
    ),
    Case("pipe", os.mkfifo, "expected a regular file"),
    Case("device", lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
    Case("link to nothing", lambda path: path.symlink_to("nowhere"), "no such file"),
    Case("link to itself", lambda path: path.symlink_to(path), "d.csv"),
    Case(
        "257 MiB", lambda path: (path.touch(), os.truncate(path, 257 * 2**20)), "more than 256 MiB"
    ),
    Case("unreadable", unreadable, "Permission denied"),
]
CASES = SHAPES + ENCODINGS + COLUMNS + LABELS + JSON + PARQUET + PATHS


def run(case: Case, folder: Path) -> str | None:
    """The message that the case gets, None where its data are read."""
    path = folder / case.file
    if callable(case.content):
        case.content(path)
    else:
        content = case.content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        load(path, **case.options)
    except InputError as error:
        return str(error)
    return None


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_line_or_handled(case, tmp_path):
    if case.content is unreadable and os.geteuid() == 0:
        pytest.skip("root may read everything")
    message = run(case, tmp_path)
    if case.message is None:
        assert message is None
    else:
        assert message is not None
        assert case.message in message
        assert message.isprintable()
        assert len(message) < 2000


@pytest.mark.parametrize(
    "source",
    [
        "",
        ".",
        "colaa",
        "http://example.org/a",
        "-x",
        "a/b/c",
        "~root",
        "%s",
        "../..",
        "a:b:c",
        "\ud800",
    ],
)
def test_names_that_are_no_data(source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load(source)
    assert str(caught.value).isprintable()


def test_memory_is_bounded():
    """The cases made to fill the memory stay under 1.5 GB together."""
    script = (
        "import sys, tempfile, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "import test_hostile as t\n"
        "for case in t.SHAPES + t.JSON + t.PARQUET + t.PATHS:\n"
        "    t.run(case, pathlib.Path(tempfile.mkdtemp(dir=sys.argv[2])))\n"
        # Not getrusage: a child starts with its parent's peak there.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])"
    )
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as made:
        done = subprocess.run(
            [sys.executable, "-c", script, str(here), made],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(here.parents[1])},
        )
    assert int(done.stdout) < 1_500_000
