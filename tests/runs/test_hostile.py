"""Run directories that no run leaves behind: one message each, no hang, nothing overwritten."""

import contextlib
import json
import os
import shutil
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blomix.errors import InputError
from blomix.runs import manifest
from tests.fuzz import RUNS

DEEP = 50_000


@pytest.fixture(autouse=True)
def alarm():
    """A hang is a failure."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    from blomix.runs import open_run

    from .conftest import CONFIG, DIGESTS

    path = tmp_path_factory.mktemp("begun") / "run"
    with open_run(path, CONFIG, DIGESTS) as run:
        run.restore("search/0", 0)
        run.log({"step": 1})
        run.save("search/0", 1, 1, final=True)
        run.restore("finetune", 0)
        run.log({"step": 2})
        run.save("finetune", 1, 2)
    return path


@pytest.fixture
def copied(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "run")


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(2**40)  # claims a terabyte


def link(path):
    outside = path.parents[1] / "outside"
    outside.write_text("precious")
    path.unlink()
    path.symlink_to(outside)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def directory(path):
    path.unlink()
    path.mkdir()


CONTENTS = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "NUL bytes": b"\0" * 100,
    "byte-order mark": b"\xef\xbb\xbf{}",
    "nested objects": b'{"a":' * DEEP,
    "nested lists": b"a = " + b"[" * DEEP,
    "half of it": b'steps = 3\n"',
    "a list": b"[1, 2]",
    "a number": b"1",
    "right to left": "\u202e{}".encode(),
    "huge number": b'{"a": 1e999999, "b": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", ["config.toml", "digests.json"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_the_run_is_known_by(opened, copied, name, content):
    (copied / name).write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged|begun with (another|other)"):
        opened(path=copied)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_an_unreadable_environment_is_a_warning(opened, copied, content, capsys):
    (copied / "env.json").write_bytes(content)
    opened(path=copied).close()
    assert "may differ" in capsys.readouterr().err


@pytest.mark.parametrize("make", [sparse, link, pipe, directory])
@pytest.mark.parametrize(
    "name", ["config.toml", "digests.json", "env.json", "lock", "metrics.jsonl", "audit.jsonl"]
)
def test_what_is_no_regular_file(opened, copied, name, make):
    make(copied / name)
    refused = None
    try:
        with opened(path=copied) as run:
            run.restore("search/0", 0)
            if run.finished("search/0"):
                run.restore("finetune", 0)
    except InputError as error:
        refused = str(error)
    # An unreadable env.json is a warning; other files that are longer than they were are cut back.
    assert refused or name == "env.json" or make is sparse
    assert not refused or str(copied) in refused
    outside = copied.parent / "outside"
    assert not outside.exists() or outside.read_text() == "precious"


def test_checkpoints_may_not_be_a_link(opened, copied):
    (copied / "checkpoints").rename(copied.parent / "elsewhere")
    (copied / "checkpoints").symlink_to(copied.parent / "elsewhere")
    with pytest.raises(InputError, match="checkpoints is a link"):
        opened(path=copied)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "\udcff"])
def test_paths_no_disk_can_hold(opened, tmp_path, path):
    try:
        opened(path=tmp_path / path).close()
    except InputError:
        return
    assert path == "\udcff"  # a file name of stray bytes is a file name


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_hostile_manifest_is_passed_over(opened, copied, content, capsys):
    (copied / "checkpoints/finetune/00000001/manifest.json").write_bytes(content)
    with opened(path=copied) as run:
        assert run.restore("search/0", 0) == (1, 1)
        assert run.restore("finetune", 0) is None
    assert "00000001 is damaged: manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"phase": "../../x", "step": 1, "final": False},
        {"phase": "finetune", "step": "1", "final": False, "sequence": [], "metrics": 3},
        {"phase": "finetune", "step": 1, "final": False, "sequence": 2, "seconds": "x"},
    ],
)
def test_a_sealed_manifest_of_something_else_is_passed_over(opened, copied, facts, capsys):
    checkpoint = copied / "checkpoints/finetune/00000001"
    (checkpoint / "manifest.json").unlink()
    manifest.write(checkpoint, facts)
    with opened(path=copied) as run:
        run.restore("search/0", 0)
        assert run.restore("finetune", 0) is None
    assert "its manifest is not a checkpoint's" in capsys.readouterr().err


def test_a_checkpoint_moved_to_another_phase_is_passed_over(opened, copied):
    shutil.rmtree(copied / "checkpoints/search/0/final")
    source = copied / "checkpoints/finetune/00000001"
    shutil.copytree(source, copied / "checkpoints/search/0/00000001")
    with opened(path=copied) as run:
        assert run.restore("search/0", 0) is None


@RUNS
@given(data=st.data())
def test_any_bytes_in_any_file_give_the_true_state_or_one_message(opened, begun, data):
    signal.alarm(60)  # for each example anew
    path = begun.parent / "fuzzed"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(begun, path)
    names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    name = data.draw(st.sampled_from(names))
    content = (path / name).read_bytes()
    start, length = (data.draw(st.integers(0, len(content))) for _ in range(2))
    noise = data.draw(st.binary(max_size=20) | st.just(json.dumps([name]).encode()))
    (path / name).write_bytes(content[:start] + noise + content[start + length :])
    with contextlib.suppress(InputError), opened(path=path) as run:
        assert run.restore("search/0", 0) in ((1, 1), None)
        if run.finished("search/0"):
            assert run.restore("finetune", 0) in ((1, 2), None)
