"""SIGKILL at random moments of a run, until it has ended; then compare it with an unbroken one.

`python tests/chaos/kill.py --kills 200` prints the counts and exits with 1 if any run differs:
in metrics.jsonl, alpha.json, splits.json, the predictions, result.json (but for its seconds), or in
any bit of the exported weights or of the last state of any phase. The run is `blomix finetune` on a
tiny random BERT; with --toy it is the loop of toy.py.
"""

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
PRELOADED = ["orbax.checkpoint.experimental.v1", "transformers", "blomix.cli.finetune"]
PRELOADED += ["blomix.encoders", "blomix.recipe.finetune", "blomix.baselines"]
PRELOADED += [
    "transformers.models.auto.tokenization_auto",
    "sklearn.metrics",
    "sklearn.preprocessing",
]
PRELOADED += ["blomix.cli.entry", "blomix.report.card"]
COMPARED = ("metrics.jsonl", "alpha.json", "splits.json", "validation.jsonl", "shares.safetensors")
COMPARED += ("export/model.safetensors",)
DIFFERS = ("seconds", "run_dir")


def outcome(directory: Path) -> dict:
    """Everything that must be equal between a broken and an unbroken run."""
    import jax
    import numpy as np
    import orbax.checkpoint.experimental.v1 as ocp

    result = json.loads((directory / "result.json").read_text())
    result = {name: value for name, value in result.items() if name not in DIFFERS}
    weights = hashlib.sha256()
    finals = sorted(directory.glob("checkpoints/**/final/state"))
    for state in finals:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sharding info not provided")
            leaves = ocp.load(str(state))
        for name in sorted(leaves):
            leaf = leaves[name]
            if jax.dtypes.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            value = np.asarray(leaf)
            weights.update(f"{state.relative_to(directory)} {name} {value.dtype}".encode())
            weights.update(f"{value.shape}".encode() + value.tobytes())
    files = {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
        for name in COMPARED
        if (directory / name).exists()
    }
    return {"result": result, "phases": len(finals), "weights": weights.hexdigest(), **files}


def finetune(arguments: list[str], directory: str) -> None:
    from blomix.cli import main

    main(["finetune", *arguments, "--run-dir", directory])


def arguments_of_finetune(work: Path) -> list[str]:
    """The flags of a run of four phases that takes seconds and saves all the time."""
    from tests.conftest import write_model, write_reviews

    for name in ("model", "data"):
        (work / name).mkdir()
    data = write_reviews(work / "data")
    return [
        *("--model", str(write_model(work / "model", layers=1)), "--train", str(data["train"])),
        *("--validation", str(data["validation"]), "--batch-size", "8", "--epochs", "8"),
        *("--set", "folds=3", "--set", "search_epochs=4", "--checkpoint-every", "0.2"),
    ]


def toy_run(directory: str) -> None:
    import toy

    toy.train(Path(directory))


def quietly(target: Callable[[str], None], directory: str) -> None:
    """Run in a process of its own, its console kept beside the run directory."""
    console = os.open(f"{directory}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(console, 1)
    os.dup2(console, 2)
    target(directory)


class Killer:
    """Starts `target(run directory)` over and over.

    Each start is a process of its own, forked from a server that has imported the libraries but
    computed nothing, so that most of a process's life is work. Compiled programs are kept.
    """

    def __init__(
        self,
        target: Callable[[str], None],
        work: Path,
        seed: int = 0,
        cache: Path | None = None,
    ):
        os.environ.update(environment(cache or work / "cache"))
        self._target, self._work = target, work
        self._random = random.Random(seed)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([*PRELOADED, "kill"])
        self.kills = 0
        self.by_phase = Counter()  # kills by the number of phases that had ended
        self._end(self._start(work / "warm-up"), work / "warm-up")

    def unbroken(self) -> dict:
        """The outcome to compare with; also measures how long the work itself takes."""
        directory = self._work / "unbroken"
        process = self._start(directory)
        self._wait_for_work(process, directory)
        began = time.monotonic()
        self._end(process, directory)
        self._seconds = time.monotonic() - began
        return outcome(directory)

    def broken(self, most: int) -> dict:
        """The outcome of a run that was killed at most that many times, then left alone."""
        directory = self._work / "broken"
        for start in range(most):
            process = self._start(directory)
            if self._random.random() > 0.1:  # the rest before the run has even been opened
                self._wait_for_work(process, directory)
            began = time.monotonic()
            process.join(self._random.uniform(0, self._seconds))
            if process.exitcode is not None:
                self._end(process, directory)
                if start == 0:  # the whole work: later moments than its end find nothing to kill
                    self._seconds = min(self._seconds, time.monotonic() - began)
                break
            process.kill()
            process.join()
            self.kills += 1
            self.by_phase[len(list(directory.glob("checkpoints/**/final")))] += 1
        else:
            self._end(self._start(directory), directory)
        result = outcome(directory)
        shutil.rmtree(directory)
        return result

    def _start(self, directory: Path) -> multiprocessing.process.BaseProcess:
        process = self._processes.Process(target=quietly, args=(self._target, str(directory)))
        process.start()
        return process

    def _wait_for_work(self, process: multiprocessing.process.BaseProcess, directory: Path) -> None:
        """Till the process has opened its run: the audit log then names it."""
        audit = directory / "audit.jsonl"
        while process.exitcode is None:
            if audit.exists() and f'"pid": {process.pid}' in audit.read_text():
                return
            time.sleep(0.01)

    def _end(self, process: multiprocessing.process.BaseProcess, directory: Path) -> None:
        process.join()
        if process.exitcode:
            console = Path(f"{directory}.log").read_text()
            raise RuntimeError(f"the run failed with {process.exitcode}:\n{console}")


def environment(cache: Path) -> dict[str, str]:
    """One kind of device, and compiled programs kept from one process to the next."""
    return os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "HF_HUB_OFFLINE": "1",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kills-per-run", type=int, default=10, help="at most so many in a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="directory that keeps compiled programs")
    parser.add_argument("--toy", action="store_true", help="kill the loop of toy.py instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        target = toy_run
        if not arguments.toy:
            target = functools.partial(finetune, arguments_of_finetune(Path(work)))
        killer = Killer(target, Path(work), arguments.seed, arguments.cache)
        expected = killer.unbroken()
        equal = runs = 0
        while killer.kills < arguments.kills:
            found = killer.broken(min(arguments.kills_per_run, arguments.kills - killer.kills))
            runs += 1
            equal += found == expected
            if found != expected:
                print(f"run {runs} differs: {found}\n      expected: {expected}")
            print(
                f"{killer.kills} kills, {equal} of {runs} runs equal the unbroken one", flush=True
            )
    print(f"kills by finished phases: {dict(sorted(killer.by_phase.items()))}")
    return 0 if equal == runs else 1


if __name__ == "__main__":
    raise SystemExit(main())
