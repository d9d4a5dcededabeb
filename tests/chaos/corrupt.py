"""Damage every file of every checkpoint in every way, and see what loads.

`python tests/chaos/corrupt.py` prints a table of counts: cases; damaged checkpoints that were named
and replaced by the one before; those not needed, for a newer one was intact; those loaded; wrong
values loaded. It exits with 1 unless the last two are 0. Its other columns show what Orbax alone
makes of the same damage.
"""

import argparse
import contextlib
import io
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import toy

Restored = dict[tuple[str, int], list]


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def extend(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(1))


def swap(path: Path, chance: random.Random) -> None:
    """Other bytes of the same length."""
    path.write_bytes(chance.randbytes(path.stat().st_size))


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (flip, truncate, delete, extend, swap)


def make(directory: Path) -> None:
    """A run whose search has ended and whose finetune phase has two checkpoints of its own."""
    toy.train(directory)
    shutil.rmtree(directory / "checkpoints" / "finetune" / "final")


def bits(state) -> list[bytes]:
    import jax
    import numpy as np

    values = []
    for leaf in jax.tree.leaves(state):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        values.append(np.asarray(leaf).tobytes())
    return values


def restore(directory: Path) -> tuple[Restored, str]:
    """What the phases of a run restore, up to the first that has to start over; and the console."""
    begin, _ = toy.build()
    found: Restored = {}
    console = io.StringIO()
    with contextlib.redirect_stderr(console), toy.open_toy(directory) as run:
        for phase in toy.PHASES:
            if (restored := run.restore(phase, begin(toy.fresh()))) is None:
                break
            found[phase, restored[0]] = bits(restored[1])
            if not run.finished(phase):
                break
    return found, console.getvalue()


def orbax_alone(checkpoint: Path) -> list[bytes] | None:
    """What Orbax loads without a look at the manifest; None if it refuses."""
    import jax
    import orbax.checkpoint.experimental.v1 as ocp

    begin, _ = toy.build()
    leaves = jax.tree.leaves(begin(toy.fresh()))
    like = {f"{index:05d}": leaf for index, leaf in enumerate(leaves)}
    try:
        return bits(ocp.load(str(checkpoint / "state"), like))
    except Exception:  # whatever it raises is a refusal
        return None


def checkpoints(directory: Path) -> dict[Path, tuple[str, int]]:
    """The phase and the step of every checkpoint, by its path from the run directory."""
    found = {}
    for manifest in directory.rglob("manifest.json"):
        path = manifest.parent.relative_to(directory)
        step = toy.STEPS if path.name == "final" else int(path.name)
        found[path] = ("/".join(path.parent.parts[1:]), step)
    return found


def cases(directory: Path, repeats: int) -> Iterator[tuple[Path, Path, Callable, int]]:
    """Checkpoint, file, damage and seed; damages that depend on chance come several times."""
    for checkpoint in sorted(checkpoints(directory)):
        for path in sorted((directory / checkpoint).rglob("*")):
            for damage in DAMAGES if path.is_file() else ():
                if damage in (delete, extend) or path.stat().st_size:
                    for seed in range(1 if damage in (delete, extend) else repeats):
                        yield checkpoint, path.relative_to(directory), damage, seed


def count(work: Path, repeats: int, stride: int = 1) -> dict[str, Counter]:
    """A row of counts for each kind of damage, over every stride-th case."""
    whole, damaged = work / "whole", work / "damaged"
    make(whole)
    keys = checkpoints(whole)
    truth = {key: orbax_alone(whole / path) for path, key in keys.items()}
    rows: dict[str, Counter] = {damage.__name__: Counter() for damage in DAMAGES}
    for checkpoint, name, damage, seed in list(cases(whole, repeats))[::stride]:
        shutil.copytree(whole, damaged)
        damage(damaged / name, random.Random(f"{name} {seed}"))
        alone = orbax_alone(damaged / checkpoint)
        loaded, console = restore(damaged)
        shutil.rmtree(damaged)
        verdict = {
            "cases": 1,
            "named": f"{checkpoint} is damaged" in console,
            "not needed": keys[checkpoint] not in loaded and " is damaged" not in console,
            "loaded": keys[checkpoint] in loaded,
            "wrong": any(truth[key] != value for key, value in loaded.items()),
        }
        if not harmless(Counter(verdict)):
            print(f"{damage.__name__} {name}, seed {seed}: {verdict}\n{console}", file=sys.stderr)
        row = rows[damage.__name__]
        row.update(verdict)
        row["Orbax: refused"] += alone is None
        row["Orbax: right"] += alone == truth[keys[checkpoint]]
        row["Orbax: wrong"] += alone is not None and alone != truth[keys[checkpoint]]
    return rows


def harmless(row: Counter) -> bool:
    """Whether each damaged checkpoint was named, or passed over for an intact newer one."""
    seen = row["named"] + row["not needed"]
    return row["cases"] == seen > 0 and row["loaded"] == row["wrong"] == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="seeds of each damage by chance")
    parser.add_argument("--stride", type=int, default=1, help="try every n-th case only")
    arguments = parser.parse_args()
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax prints what it then raises
    with tempfile.TemporaryDirectory() as work:
        rows = count(Path(work), arguments.repeats, arguments.stride)
    rows["all"] = sum(rows.values(), Counter())
    columns = ("cases", "named", "not needed", "loaded", "wrong")
    columns += ("Orbax: refused", "Orbax: right", "Orbax: wrong")
    print(f"| damage | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(str(row[column]) for column in columns)} |")
    return 0 if harmless(rows["all"]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
