"""Where an outer step's time goes, by kind of instruction, from the compiled program and a trace.

`python -m experiments.hypergradient.account`: for the plain step, the exact ones and the finite
difference at K = 1, MiniLM, layers not rematerialised, scanned and unrolled: what the program runs
of each kind (loops counted as often as they turn), and how long its instructions took.
"""

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from math import prod
from pathlib import Path
from typing import NamedTuple

import jax

from experiments.hypergradient.bench import PLAIN, Case, run_arguments, step_of

CASES = {
    "scanned": Case("minilm", 1, False, "adamw"),
    "unrolled": Case("minilm", 1, False, "adamw", scan=False),
}
PROGRAMS = (PLAIN, "exact", "exact, residuals kept", "finite difference")
KINDS = ("matrix products", "random words", "copies", "weights", "activations")

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "u16": 2, "s64": 8, "f64": 8}
_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.\-]+) \(.*?\{\n(.*?)^\}", re.M | re.S)
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)", re.M)
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_CONTROL = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"}
_MOVES = {"copy", "slice", "dynamic-slice", "dynamic-update-slice", "transpose", "broadcast"}
_MOVES |= _CONTROL | {"reshape", "concatenate", "pad", "fusion"}


class Instruction(NamedTuple):
    root: bool
    name: str
    shape: str
    opcode: str
    operands: list[str]
    line: str


def read(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """(the entry, instructions by computation) of a compiled program's text."""
    found, entry = {}, ""
    for is_entry, name, body in _COMPUTATION.findall(text):
        lines = body.splitlines()
        matches = ((_INSTRUCTION.match(line), line) for line in lines)
        found[name] = [
            Instruction(bool(m[1]), m[2], m[3], m[4], re.findall(r"%([\w.\-]+)", m[5]), line)
            for m, line in matches
            if m
        ]
        entry = name if is_entry else entry
    return entry, found


def dimensions(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Type and dimensions of an array, or of all arrays of a tuple."""
    return [(t, tuple(map(int, d.split(","))) if d else ()) for t, d in _SHAPE.findall(shape)]


def size(shape: str) -> int:
    return sum(_BYTES.get(kind, 4) * prod(d) for kind, d in dimensions(shape))


class Program:
    """A compiled program; `weights` are the last two axes of its weight matrices."""

    def __init__(self, text: str, weights: set[tuple[int, ...]]):
        self.entry, self.computations = read(text)
        self.shapes = {i.name: i.shape for body in self.computations.values() for i in body}
        self.weights = weights

    def runs(self, computation: str | None = None, times: int = 1):
        """(instruction, how often it runs) of all that does work."""
        for i in self.computations[computation or self.entry]:
            if i.opcode in _CONTROL:
                continue
            if i.opcode == "while":
                trips = re.search(r'known_trip_count":\{"n":"(\d+)"', i.line)
                if trips is None:
                    raise ValueError(f"{i.name}: a loop whose number of turns is not known")
                yield from self.runs(self.called(i, "body"), times * int(trips[1]))
            elif i.opcode == "call":
                yield from self.runs(self.called(i, "to_apply"), times)
            else:
                yield i, times

    def called(self, i: Instruction, how: str) -> str:
        return re.search(rf"{how}=%([\w.\-]+)", i.line)[1]

    def body(self, i: Instruction) -> list[Instruction]:
        return self.computations[self.called(i, "calls")] if i.opcode == "fusion" else [i]

    def flops(self, i: Instruction) -> float:
        total = 0.0
        for inner in self.body(i):
            if inner.opcode == "dot":
                axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", inner.line)[1]
                (_, left), *_ = dimensions(self.shapes[inner.operands[0]])
                depth = prod(left[int(a)] for a in axes.split(",") if a)
                total += 2.0 * depth * sum(prod(d) for _, d in dimensions(inner.shape))
        return total

    def bytes(self, i: Instruction) -> int:
        """Read and written; of an array that is sliced or updated in place, the slice."""
        if i.opcode != "fusion":
            return size(i.shape) + sum(size(self.shapes[o]) for o in i.operands)
        body, total = self.body(i), 0
        for p in (x for x in body if x.opcode == "parameter"):
            users = [x for x in body if p.name in x.operands]
            if users and all(x.opcode == "dynamic-slice" for x in users):
                total += sum(size(x.shape) for x in users)
            elif not any(x.opcode == "dynamic-update-slice" for x in users):
                total += size(p.shape)
        updates = [x for x in body if x.opcode == "dynamic-update-slice"]
        if updates:
            return total + sum(size(self.shapes[x.operands[1]]) for x in updates)
        return total + size(i.shape)

    def kind(self, i: Instruction) -> str:
        body = self.body(i)
        if self.flops(i):
            return KINDS[0]
        arrays = [(x.opcode, *shape) for x in body for shape in dimensions(x.shape) if shape[1]]
        if any(kind == "u32" for _, kind, _ in arrays):
            return KINDS[1]
        moves = all(opcode in _MOVES for opcode, kind, _ in arrays if kind not in ("s32", "pred"))
        if moves and not any(x.opcode == "reduce" for x in body):
            return KINDS[2]
        return KINDS[3] if any(d[-2:] in self.weights for *_, d in arrays) else KINDS[4]


def seconds(compiled, arguments) -> float:
    start = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    return time.perf_counter() - start


def spent_in(compiled, arguments) -> dict[str, float]:
    """Milliseconds of each instruction, by name, in one run; two cores may run two at a time."""
    found: dict[str, float] = defaultdict(float)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            seconds(compiled, arguments)
        (trace,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
            for line in plane.lines:
                for event in line.events:
                    found[event.name] += event.duration_ns / 1e6
    return found


def account(layers: str, name: str, rounds: int) -> list[dict]:
    case = CASES[layers]
    step, shapes = step_of(case, name)
    compiled = jax.jit(step).lower(*shapes).compile()
    matrices = (x for x in jax.tree.leaves(case.encoder().params) if x.ndim > 1 and x.size > 10**5)
    program = Program(compiled.as_text(), {x.shape[-2:] for x in matrices})
    arguments = run_arguments(case, name)
    whole = 1e3 * min(seconds(compiled, arguments) for _ in range(rounds + 1))
    traces = [spent_in(compiled, arguments) for _ in range(rounds)]
    rows = {
        kind: {"layers": layers, "program": name, "program_milliseconds": whole, "kind": kind}
        | dict.fromkeys(("runs", "gflop", "gigabytes"), 0)
        for kind in KINDS
    }
    names = defaultdict(set)
    for i, times in program.runs():
        row = rows[program.kind(i)]
        names[row["kind"]].add(i.name)
        row["runs"] += times
        row["gflop"] += times * program.flops(i) / 1e9
        row["gigabytes"] += times * program.bytes(i) / 1e9
    for kind, row in rows.items():
        row["milliseconds"] = min(sum(t.get(x, 0.0) for x in names[kind]) for t in traces)
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rows = []
    for layers in CASES:
        for name in PROGRAMS:
            rows += account(layers, name, options.rounds)
            for row in rows[-len(KINDS) :]:
                print(json.dumps(row), flush=True)
    environment = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    path = options.out / f"account-{jax.default_backend()}.json"
    path.write_text(json.dumps(environment | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
