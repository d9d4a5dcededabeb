"""Real signals, real kills, damaged files: the outcome is that of an unbroken run."""

import json
import random
import signal
import subprocess
import sys

import corrupt
import pytest
import toy
from kill import Killer, outcome, toy_run

from blomix.errors import InputError


def wait_till_paused(process):
    assert process.stdout.readline() == "waiting\n", process.communicate()[1]


def test_kills_at_random_moments_leave_no_trace(tmp_path, expected):
    killer = Killer(toy_run, tmp_path)
    assert killer.unbroken() == expected
    while killer.kills < 20:
        assert killer.broken(min(10, 20 - killer.kills)) == expected


def test_a_signal_in_each_phase(start, tmp_path, expected):
    """One run, asked to stop in every one of its phases in turn."""
    directory = tmp_path / "run"
    signals = [signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM]
    for phase, number in zip(toy.PHASES, signals, strict=True):
        process = start(directory, "--pause", phase)
        wait_till_paused(process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
        assert "Traceback" not in errors
        events = [json.loads(line) for line in (directory / "audit.jsonl").read_text().splitlines()]
        assert events[-1]["event"] == "interrupted"
        assert events[-1]["phase"] == phase
    process = start(directory)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert outcome(directory) == expected


def test_one_process_at_a_time(start, tmp_path, expected):
    directory = tmp_path / "run"
    process = start(directory, "--pause", "finetune")
    wait_till_paused(process)
    with pytest.raises(InputError, match=f"in use by process {process.pid} on .*--run-dir"):
        toy.open_toy(directory)
    process.kill()  # leaves no lock behind
    process.wait()
    toy.train(directory)
    assert outcome(directory) == expected


def test_a_second_signal_leaves_at_once(start, tmp_path, expected):
    directory = tmp_path / "run"
    process = start(directory, "--pause", "search/1", "--deaf")
    wait_till_paused(process)
    process.send_signal(signal.SIGTERM)
    while "stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    toy.train(directory)
    assert outcome(directory) == expected


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (corrupt.flip, "manifest.json"),
        (corrupt.truncate, "state/_CHECKPOINT_METADATA"),
        (corrupt.delete, "state/state/manifest.ocdbt"),
        (corrupt.extend, "state/state/_METADATA"),
        (corrupt.swap, "state/state/ocdbt.process_0/manifest.ocdbt"),
    ],
)
def test_a_damaged_run_is_mended_by_running_it_again(damage, name, copy, expected, capsys):
    damage(copy / "checkpoints/search/1/final" / name, random.Random(0))
    toy.train(copy)
    assert "search/1/final is damaged" in capsys.readouterr().err
    assert outcome(copy) == expected


def test_changed_metrics_are_written_again(copy, expected, capsys):
    path = copy / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:20], lines[20].replace("1", "2", 1), *lines[21:]]))
    toy.train(copy)
    assert "metrics.jsonl written before it are missing or changed" in capsys.readouterr().err
    assert outcome(copy) == expected


def test_no_damage_loads_silently():
    command = [sys.executable, corrupt.__file__, "--stride", "9", "--repeats", "1"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "| all |" in answer.stdout
