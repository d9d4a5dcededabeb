"""The bytes of a program before it is compiled: as soon as its buffers have their places.

For a TPU the compiler optimises a program and gives its buffers their places within seconds, and
then writes machine code for minutes, which no byte depends on. It cannot be asked to stop there,
but it can be asked to write down what it did, and be ended once it has.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PLACES = "*.after_optimizations-buffer-assignment.txt"
NEXT = "*.after_optimizations_after_buffer_assignment.txt"  # written once PLACES is whole
ANSWER = "answer.json"


def memory(function: Callable[..., Any], *arguments: Any) -> dict[str, int] | Any:
    """Calls `function`, which compiles one program for devices that are not there, in a process of
    its own, and ends that once the program's buffers have their places: bytes a device by kind, as
    `Program.memory` has them. The function's own answer where that comes first, as it does where
    the compiler refuses the program, or does not write down what it does.

    Args:
      function: of a module that can be imported by its name.
      arguments: JSON, as is what the function answers.

    Raises:
      CalledProcessError: the function failed, with a traceback on stderr.
    """
    with TemporaryDirectory(prefix="blomix-plan-") as folder:
        command = [sys.executable, "-m", "blomix.parallel.early", folder]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",  # an accelerator may be this process's own
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}".strip(),
        }
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stdin is not None
        try:
            call = [function.__module__, function.__name__, arguments]
            process.stdin.write(json.dumps(call).encode() + b"\n")
            process.stdin.flush()
            while process.poll() is None:
                if any(Path(folder).glob(NEXT)):
                    (places,) = Path(folder).glob(PLACES)
                    return bytes_by_kind(places.read_text())
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return json.loads(Path(folder, ANSWER).read_text())


def bytes_by_kind(places: str) -> dict[str, int]:
    """Sums the allocations in a chip's main memory, from the compiler's list of them."""
    found = {"arguments": 0, "temporaries": 0, "outputs": 0}
    for size, what in re.findall(r"^allocation \d+: size (\d+), (.*)$", places, re.MULTILINE):
        if re.search(r"\bcolor \d", what):  # of the chip's other memories
            continue
        if "parameter" in what:
            found["arguments"] += int(size)
        elif "preallocated-temp" in what:
            found["temporaries"] += int(size)
        elif "maybe-live-out" in what:
            found["outputs"] += int(size)
    return found


def main() -> None:
    module, name, arguments = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer = getattr(import_module(module), name)(*arguments)
    Path(sys.argv[1], ANSWER).write_text(json.dumps(answer))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # which ends when the other end is gone
    shutil.rmtree(sys.argv[1], ignore_errors=True)  # who made it may have been killed
    os._exit(1)


if __name__ == "__main__":
    main()
