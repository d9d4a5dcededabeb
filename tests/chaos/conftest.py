import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # the scripts of this directory import one another by name

from kill import environment, outcome  # noqa: E402


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def start(cache):
    """Starts the toy run as a process of its own; whatever is left of it is killed in the end."""
    processes = []

    def starter(directory, *arguments):
        process = subprocess.Popen(
            [sys.executable, str(HERE / "toy.py"), str(directory), *arguments],
            env=environment(cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield starter
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory):
    """The directory of a run that nothing disturbed."""
    import toy

    directory = tmp_path_factory.mktemp("unbroken") / "run"
    toy.train(directory)
    return directory


@pytest.fixture(scope="session")
def expected(unbroken):
    return outcome(unbroken)


@pytest.fixture
def copy(unbroken, tmp_path):
    """The undisturbed run before its result was written, to be damaged."""
    directory = tmp_path / "copy"
    shutil.copytree(unbroken, directory)
    (directory / "result.json").unlink()
    return directory
