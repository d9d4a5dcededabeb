"""Several processes on loopback."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from blomix.errors import InputError
from blomix.parallel import hosts
from tests.parallel.eight import results


@pytest.mark.parametrize(("processes", "mesh"), [(2, "data=2,model=2"), (4, "model=8")])
def test_processes_give_the_numbers_of_one_device(processes, mesh):
    """Two devices each; every process ends with all the results."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    workers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.parallel.eight", "joined"),
                f"{coordinator}/{processes}/{process}/{mesh}",
            ],
            env=os.environ | devices,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]
    expected = results(None)
    try:
        for worker in workers:
            out, err = worker.communicate(timeout=500)
            assert worker.returncode == 0, err
            (found,) = json.loads(out.splitlines()[-1]).values()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    finally:
        for worker in workers:
            worker.kill()


@pytest.mark.parametrize(
    ("coordinator", "processes", "process"), [("localhost", 2, 0), (":9", 2, 0), ("a:1", 2, 2)]
)
def test_what_makes_no_sense_is_refused(coordinator, processes, process):
    with pytest.raises(InputError, match="expected"):
        hosts.join(coordinator, processes, process)
