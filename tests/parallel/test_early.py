"""A compiler that is ended once it has said what buffers take."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blomix.parallel import early

# As libtpu 0.0.52 writes it: parameters, of which one is overwritten, results and temporaries, and
# what the finished program does not count: constants, stacks, and the chip's other memories.
PLACES = """\
BufferAssignment:
allocation 0: size 4096, page 0, thread-local:
 value: <9 add.2 @0> (size=4,offset=0): f32[]
allocation 1: size 113246208, page 0, parameter 13, shape |f32[12,768,3072]| at ShapeIndex {}, \
maybe-live-out:
 value: <30617 while.28{1} (phi) @1> (size=75497472,offset=37748736): bf16[12,32,128,768]
allocation 7: size 28311552, page 0, parameter 19, shape |f32[12,768,768]| at ShapeIndex {}:
allocation 20: size 1024, page 0, output shape is |(f32[12,768])|, maybe-live-out:
allocation 21: size 3584, page 0, maybe-live-out:
allocation 22: size 1024, page 0, constant:
allocation 23: size 117325824, page 0, color 1, preallocated-temp:
allocation 24: size 1876574720, page 0, preallocated-temp:
"""


def write_places_and_go_on(pid: str) -> None:
    Path(pid).write_text(str(os.getpid()))
    folder = Path(os.environ["XLA_FLAGS"].split("--xla_dump_to=")[1])
    name = "module_0000.jit_step.cl_1"
    (folder / f"module_0001.jit_add.cpu_{early.PLACES.removeprefix('*.')}").write_text("")
    (folder / f"{name}{early.PLACES.removeprefix('*')}").write_text(PLACES)
    (folder / f"{name}{early.NEXT.removeprefix('*')}").write_text("")
    time.sleep(600)


def write_pid_and_go_on(pid: str) -> None:
    Path(pid).write_text(str(os.getpid()))
    time.sleep(600)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_what_the_finished_program_counts_is_counted():
    assert early.bytes_by_kind(PLACES) == {
        "arguments": 113246208 + 28311552,
        "temporaries": 1876574720,
        "outputs": 1024 + 3584,
    }


def test_the_compiler_is_ended_once_buffers_have_their_places(tmp_path):
    pid = tmp_path / "pid"
    assert early.memory(write_places_and_go_on, str(pid)) == early.bytes_by_kind(PLACES)
    assert gone(int(pid.read_text()))


def test_an_answer_that_comes_first_is_taken():
    assert early.memory(divmod, 7, 2) == [3, 1]


def test_a_failure_is_not_an_answer(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        early.memory(int, "x")
    assert "invalid literal for int" in capfd.readouterr().err


def test_neither_the_compiler_nor_its_files_outlive_who_asked(tmp_path):
    pid = tmp_path / "pid"
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    code = (
        "from blomix.parallel import early\n"
        "from tests.parallel.test_early import write_pid_and_go_on\n"
        f"early.memory(write_pid_and_go_on, {str(pid)!r})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(dumps)})
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while not gone(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(int(pid.read_text()))
    assert not list(dumps.iterdir())
