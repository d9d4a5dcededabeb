"""Predictions on disk: whole or not at all, over nothing, inert in a spreadsheet."""

import csv
import json
import os

import pytest

from blomix.data import output, write_columns
from blomix.data.output import safe_cell
from blomix.errors import InputError

COLUMNS = {
    "text": ["=1+1", 'a "b"\r\nc,\td', "é\u200b\0", "-1"],
    "label": ["@SUM(A1)", "+x", "no", "-1.5e3"],
    "score": [-0.25, 1.0, 0.5, 2.0],
}


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("tsv", "\t")])
def test_separated_files_read_back(tmp_path, suffix, separator):
    path = write_columns(tmp_path / f"p.{suffix}", COLUMNS)
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter=separator, strict=True)
    assert header == list(COLUMNS)
    assert [row[0] for row in rows] == ["'=1+1", *COLUMNS["text"][1:]]
    assert [row[1] for row in rows] == ["'@SUM(A1)", "'+x", "no", "-1.5e3"]
    assert [float(row[2]) for row in rows] == COLUMNS["score"]
    assert os.listdir(tmp_path) == [path.name]


def test_json_lines_keep_every_text_as_it_is(tmp_path):
    path = write_columns(tmp_path / "p.jsonl", COLUMNS)
    rows = [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]
    assert {name: [row[name] for row in rows] for name in COLUMNS} == COLUMNS


@pytest.mark.parametrize("cell", ["=a", "+a", "-a", "@a", "\t=a", "\r=a", " =a", "＝a", "+1+1"])
def test_formula_cells_are_neutralised(cell):
    assert safe_cell(cell) == "'" + cell


@pytest.mark.parametrize(
    "cell", ["a=b", "-1", "+2.5", "1e-3", "", " a", -1, None, "'=a", "+", "--"]
)
def test_other_cells_are_left_alone(cell):
    assert safe_cell(cell) == cell


def test_nothing_is_written_over(tmp_path):
    taken = tmp_path / "p.csv"
    taken.write_text("mine")
    dangling = tmp_path / "q.csv"
    dangling.symlink_to(tmp_path / "elsewhere")
    for path in (taken, dangling):
        with pytest.raises(InputError, match="is not written over"):
            write_columns(path, COLUMNS)
    assert taken.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["p.csv", "q.csv"]


def test_a_file_made_meanwhile_is_not_written_over(tmp_path, monkeypatch):
    path = tmp_path / "p.csv"
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (sync(handle), path.write_text("theirs")))
    with pytest.raises(InputError, match="is not written over"):
        write_columns(path, COLUMNS)
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["p.csv"]


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failing_disk_leaves_nothing_behind(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.os, step, full)
    with pytest.raises(InputError, match=r"p\.csv: cannot be written: No space left"):
        write_columns(tmp_path / "p.csv", COLUMNS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p.txt", r"ending in \.csv, \.tsv, \.jsonl"),
        ("p", "ending in"),
        ("none/p.csv", "no such folder"),
        ("../" * 3 + "p\n.tvs", r"did you mean '\.tsv'"),
    ],
)
def test_bad_names_are_refused_in_one_line(tmp_path, name, message):
    with pytest.raises(InputError, match=message) as caught:
        write_columns(tmp_path / name, COLUMNS)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        write_columns(tmp_path / "p.csv", COLUMNS)
