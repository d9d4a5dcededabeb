"""The command with its standard streams closed, full, or without a reader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(tail: str, *words: str) -> subprocess.CompletedProcess:
    """The command line with `tail`, redirections, behind it, and the exit code on a last line."""
    line = f'"{sys.executable}" -m blomix "$@" {tail}; echo code=${{PIPESTATUS[0]}}'
    return subprocess.run(
        ["bash", "-c", line, "bash", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        timeout=120,
    )


@pytest.mark.parametrize("words", [("--help",), ("finetune", "--help"), ("nothing",)])
@pytest.mark.parametrize("tail", ["| true", "<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>&1 | true"])
def test_a_closed_stream_is_no_failure(words, tail):
    done = command(tail, *words)
    assert done.stdout.endswith(f"code={2 if words == ('nothing',) else 0}\n")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_full_disk_behind_the_output_is_one_message():
    done = command("> /dev/full", "--help")
    assert done.stdout == "code=2\n"
    assert done.stderr == "blomix: the output cannot be written: No space left on device\n"


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path):
    code = (
        "from blomix.cli import streams\nstreams.forgive()\n"
        f"with open({str(tmp_path / 'file')!r}, 'w') as file: raise SystemExit(file.fileno())"
    )
    line = f'"{sys.executable}" -c "$1" <&- >&- 2>&-'
    done = subprocess.run(["bash", "-c", line, "bash", code], env={"PYTHONPATH": str(ROOT)})
    assert done.returncode > 2


def test_a_user_is_not_advised_to_install_torch(tiny_model, reviews, tmp_path):
    flags = ("--train", str(reviews["train"]), "--run-dir", str(tmp_path / "run"), "--dry-run")
    done = command("", "finetune", "--model", str(tiny_model), *flags)
    assert done.stdout.endswith("code=0\n")
    assert "torch" not in done.stderr.lower()
