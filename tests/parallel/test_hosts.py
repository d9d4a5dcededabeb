"""Several processes on loopback."""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from blomix.errors import InputError
from blomix.parallel import hosts
from blomix.runs.files import read_lines
from tests.conftest import result_of
from tests.parallel.eight import results
from tests.parallel.many import FOLDS, STEPS, train


@contextmanager
def processes(count: int, devices: int, command):
    """`count` processes of `devices` CPU devices: `command(coordinator, process)` is what follows
    `python -m`. None outlives this."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    flags = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", *command(coordinator, process)],
            env=os.environ | flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(count)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_processes_give_the_numbers_of_one_device():
    """Four processes of two devices; each ends with all the results."""

    def command(coordinator, process):
        return ("tests.parallel.eight", "joined", f"{coordinator}/4/{process}/model=8")

    expected = results(None)
    with processes(4, 2, command) as workers:
        for worker in workers:
            out, err = worker.communicate(timeout=500)
            assert worker.returncode == 0, err
            (found,) = json.loads(out.splitlines()[-1]).values()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_command_in_two_processes(tiny_model, reviews, tmp_path, blomix):
    """The first prints, logs and exports; the numbers are those of one device."""
    data = ("--train", reviews["train"], "--validation", reviews["validation"])
    flags = ("--method", "plain", "--batch-size", "8", "--epochs", "1", "--max-length", "16")
    flags = ("--model", tiny_model, *data, *flags, "--json", "--run-dir")

    def command(coordinator, process):
        where = ("--coordinator", coordinator, "--processes", 2, "--process", process)
        flags_here = (*flags, tmp_path / "two", *where, "--mesh", "data=2,model=2")
        return ("blomix", "finetune", *map(str, flags_here))

    code, out, err = blomix("finetune", *flags, tmp_path / "one")
    assert code == 0, err
    with processes(2, 2, command) as workers:
        (first, _), (second, _) = ends = [worker.communicate(timeout=500) for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], ends
    assert result_of(out)["score"] == json.loads(first.splitlines()[-1])["score"]
    assert "score" not in second
    one, two = (read_lines(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert [record["loss"] for record in two] == pytest.approx([record["loss"] for record in one])
    for name in ("export/model.safetensors", "result.json", "validation.jsonl"):
        assert (tmp_path / "two" / name).is_file()


def test_a_run_outlives_its_processes(tmp_path):
    """Begun by one of eight devices, killed in the search; gone on with by four, one of which is
    killed in the search too, then by two, the first of which is killed in the finetuning; ended by
    one of one device, with the numbers of a run that nothing disturbed."""
    killed(1, "data=2,model=4", tmp_path / "run", victim=0, at=("search", 0, 3), devices=8)
    assert list((tmp_path / "run/checkpoints/search/0").iterdir())
    killed(4, "data=2,model=2", tmp_path / "run", victim=3, at=("search", 1, 3))
    assert (tmp_path / "run/checkpoints/search/0/final").is_dir()
    killed(2, "model=2", tmp_path / "run", victim=0, at=("finetune", 0, 3))
    assert (tmp_path / "run/checkpoints/search/1/final").is_dir()
    assert list((tmp_path / "run/checkpoints/finetune/0").iterdir())
    params, expected = train(tmp_path / "run"), train(tmp_path / "unbroken")
    records, expected_records = (
        read_lines(tmp_path / name / "metrics.jsonl") for name in ("run", "unbroken")
    )
    for leaf, known in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, known, rtol=1e-5, atol=1e-5)
    assert len(records) == FOLDS * STEPS + STEPS
    for record, known in zip(records, expected_records, strict=True):
        phase, shares = known.pop("phase"), known.pop("shares", [])
        assert (record.pop("phase"), record.pop("shares", [])) == (phase, pytest.approx(shares))
        assert record == pytest.approx(known, rel=1e-5, abs=1e-5)


def killed(count: int, mesh: str, run, victim: int, at: tuple, devices: int = 1) -> None:
    """A run of `count` processes, one of which dies; the others follow with a message."""

    def command(coordinator, process):
        where = map(str, (count, process, mesh, run, *(at if process == victim else ())))
        return ("tests.parallel.many", coordinator, *where)

    with processes(count, devices, command) as workers:
        for process, worker in enumerate(workers):
            _, err = worker.communicate(timeout=200)
            assert worker.returncode != 0
            if process == victim:
                assert worker.returncode == -9, err
            else:  # ours, or JAX's own where the coordinator is gone
                assert "another one was lost" in err or "another task died" in err, err


@pytest.mark.parametrize(
    ("coordinator", "count", "process"),
    [
        *(("localhost", 2, 0), (":9", 2, 0), ("a:1", 2, 2), ("a:1", None, None)),
        *((None, 2, 0), (None, None, 0), ("auto", 2, 0)),
    ],
)
def test_what_makes_no_sense_is_refused(coordinator, count, process):
    with pytest.raises(InputError, match="expected"):
        hosts.join(coordinator, count, process)
