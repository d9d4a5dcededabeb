"""What a setting needs of a device, from the compiler and without the device."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from blomix.data import Examples
from blomix.encoders import Encoder
from blomix.encoders.configuration import read_config
from blomix.encoders.families import family_of
from blomix.errors import InputError
from blomix.parallel import early
from blomix.parallel.cache import unwritten
from blomix.parallel.chips import GIB, Topology
from blomix.parallel.flops import matrix_flops
from blomix.parallel.mesh import OnMesh, Shape
from blomix.recipe.checks import whole
from blomix.recipe.job import Job
from blomix.recipe.preparation import check_parts
from blomix.recipe.program import compile_step, device_memory, vmapped
from blomix.recipe.recipe import Recipe, SearchStep, mixed

STEPS = 1000  # of the learning rate's schedule, which no size depends on


@dataclass(frozen=True)
class Setting:
    """An encoder, what it is trained on at once, and where.

    Attributes:
      config: config.json of an encoder, or its directory.
      topology, mesh: the devices, and how they are used.
      batch, length: examples a step (all devices together), tokens an example.
      accumulate: parts that a batch is computed in, one after the other.
      unroll, hypergradient: see `BilevelProblem`.
      ensemble: folds and seeds that advance together.
      dtype, remat: see `Encoder`.
      quick: for a TPU, end the compiler once every buffer has its place, before it writes machine
        code: seconds in place of minutes for the same bytes.
    """

    config: str | Path
    topology: Topology
    mesh: Shape
    batch: int = 32
    length: int = 128
    unroll: int = 1
    hypergradient: str = "exact"
    ensemble: int = 1
    accumulate: int = 1
    dtype: str = "bfloat16"
    remat: bool = True
    quick: bool = True

    def __post_init__(self):
        whole(self, "batch", "length", "ensemble")  # the recipe checks the rest

    def __str__(self) -> str:
        return f"--topology {self.topology} --mesh {self.mesh} --{'' if self.remat else 'no-'}remat"

    @property
    def scanned(self) -> bool:
        """Layers are scanned where the family allows it."""
        return family_of(*read_config(self.config)).uniform_layers

    @property
    def flags(self) -> list[str]:
        """Those of `blomix finetune` whose steps these are."""
        words = ["--batch-size", f"{self.batch}", "--max-length", f"{self.length}"]
        words += ["--dtype", self.dtype, "--mesh", str(self.mesh)]
        words += ["--accumulate", f"{self.accumulate}"] if self.accumulate > 1 else []
        words += ["--set", f"unroll={self.unroll}"] if self.unroll > 1 else []
        folds = ["--set", f"folds={self.ensemble}", "--together", "yes"]
        words += folds if self.ensemble > 1 else ["--together", "no"]
        words += ["--remat"] if self.remat else []
        words += ["--scan-layers"] if self.scanned else []
        estimator = f"hypergradient={self.hypergradient}"
        return words + (["--set", estimator] if self.hypergradient != "exact" else [])


@dataclass(frozen=True)
class Need:
    """What one compiled step takes of each device.

    Attributes:
      memory: bytes by kind (arguments, temporaries, outputs); only a total where it does not fit.
      limit: bytes there are.
      flops: of its matrix products, recomputation included.
      seconds: no step is faster: products at the chip's peak, or every argument read and every
        result written once at its memory's. None where there are no public figures.
      compiled_in: seconds, with `Setting.quick` those until every buffer had its place; None where
        the compiler refused.
    """

    memory: dict[str, int]
    limit: int
    flops: float
    seconds: float | None
    compiled_in: float | None

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.bytes <= self.limit

    def record(self) -> dict[str, Any]:
        return self.__dict__ | {"bytes": self.bytes, "fits": self.fits}


def plan(setting: Setting, steps: tuple[str, ...] = ("search", "finetune")) -> dict[str, Need]:
    """Compiles the named steps for the setting's devices.

    Raises:
      InputError: the mesh does not fit the topology, or the batch or the folds the mesh.
    """
    if setting.mesh.devices > setting.topology.size:
        raise InputError(
            f"mesh {setting.mesh}: expected at most {setting.topology.size} devices, those of "
            f"{setting.topology}, found {setting.mesh.devices}"
        )
    if setting.ensemble % setting.mesh.ensemble:
        raise InputError(
            f"mesh {setting.mesh}: {setting.ensemble} folds or seeds (--ensemble) cannot be split "
            f"evenly over {setting.mesh.ensemble} devices"
        )
    check_parts(_job(setting)[1], setting.mesh.rows, lanes=1)
    place = OnMesh.of(setting.mesh, setting.topology.devices())
    return {name: _need(setting, place, name) for name in steps}


def cheapest(setting: Setting, step: str = "search") -> tuple[Setting, Need] | None:
    """The first setting that fits, from fewer chips to more, and on equally many from less work
    (no recomputation, whole weights) to more; None where nothing up to 16 chips fits."""
    for candidate in candidates(setting):
        if least_bytes(candidate) < _limit(candidate):
            need = plan(candidate, (step,))[step]
            if need.fits:
                return candidate, need
    return None


def candidates(setting: Setting) -> Iterator[Setting]:
    """Settings that compute the same, cheapest first."""
    for topology in _smaller_and_larger(setting.topology):
        meshes = [Shape(data=topology.size)]
        if topology.size > 1:
            meshes.append(Shape(model=topology.size))
        for mesh, remat in product(meshes, (False, True)):
            if setting.batch // setting.accumulate % mesh.rows == 0:  # what `check_parts` asks
                yield replace(setting, topology=topology, mesh=mesh, remat=remat)


def _smaller_and_larger(topology: Topology) -> list[Topology]:
    if topology.chip is None:
        return [topology]
    return [Topology(topology.kind, grid) for grid in ((1, 1), (2, 2), (2, 4), (4, 4))]


def least_bytes(setting: Setting) -> float:
    """Bytes a device that no compiler can save: the states and weights of a search step, as if all
    of them were split."""
    _, (state, shared, _) = _search(setting)
    lanes, weights = (
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        for tree in (state, shared)
    )
    return (lanes * setting.ensemble / setting.mesh.ensemble + weights) / setting.mesh.model


def _search(setting: Setting) -> tuple[Any, tuple]:
    job, recipe = _job(setting)
    mixup = recipe.mixup(job)
    problem = recipe.problem(job, mixup, STEPS)
    params = job.encoder.params
    state = jax.eval_shape(lambda params: problem.init(jax.random.key(0), params), params)
    inner = _batch(setting, (setting.unroll,))
    return SearchStep(problem), (state, params, {"inner": inner, "outer": _batch(setting)})


def _finetune(setting: Setting) -> tuple[Any, tuple]:
    job, recipe = _job(setting)
    mixup = recipe.mixup(job)
    step = mixed(recipe.step(job), job, mixup)

    def init(params):
        key = jax.random.key(0)
        return step.init(params, key, extra=mixup.init(key, params))

    params = job.encoder.params
    return step, (jax.eval_shape(init, params), params, _batch(setting))


STEP_OF = {"search": _search, "finetune": _finetune}


def _job(setting: Setting) -> tuple[Job, Recipe]:
    encoder = Encoder.abstract(
        setting.config,
        dtype=setting.dtype,
        remat=setting.remat,
        scan_layers=setting.scanned,
    )
    recipe = Recipe(
        batch_size=setting.batch,
        accumulate=setting.accumulate,
        unroll=setting.unroll,
        hypergradient=setting.hypergradient,
    )
    return Job(encoder, Examples(()), {}, 0, setting.length), recipe


def _batch(setting: Setting, front: tuple[int, ...] = ()) -> dict[str, jax.ShapeDtypeStruct]:
    rows = (*front, setting.batch)
    shapes = {name: (*rows, setting.length) for name in ("input_ids", "attention_mask")}
    shapes |= {"token_type_ids": (*rows, setting.length), "labels": rows}
    return {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in shapes.items()}


def _need(setting: Setting, place: OnMesh, name: str) -> Need:
    step, arguments = STEP_OF[name](setting)
    flops = matrix_flops(step, *arguments) / setting.mesh.rows
    if _stacked(setting, arguments):
        flops *= setting.ensemble / setting.mesh.ensemble
    limit, chip = _limit(setting), setting.topology.chip
    if setting.quick and chip is not None:
        memory, took = _until_placed(setting, name)
    else:
        memory, took = _compiled(setting, place, step, arguments)
    seconds = None
    if chip is not None and took is not None:
        moved = memory["arguments"] + memory["outputs"]
        seconds = max(flops / chip.flops, moved / chip.bandwidth)
    return Need(memory, limit, flops, seconds, took)


Compiled = tuple[dict[str, int], float | None]  # `Need.memory` and `Need.compiled_in`


def _until_placed(setting: Setting, name: str) -> Compiled:
    started = time.monotonic()
    words = {field.name: getattr(setting, field.name) for field in fields(setting)}
    words |= {key: str(words[key]) for key in ("config", "topology", "mesh")}
    found = early.memory(_alone, words, name)
    return (found, time.monotonic() - started) if isinstance(found, dict) else tuple(found)


def _alone(words: dict[str, Any], name: str) -> Compiled:
    """The same in a process of its own, where a setting comes in plain words."""
    parsed = {"topology": Topology.parse(words["topology"]), "mesh": Shape.parse(words["mesh"])}
    setting = Setting(**words | parsed)
    place = OnMesh.of(setting.mesh, setting.topology.devices())
    return _compiled(setting, place, *STEP_OF[name](setting))


def _compiled(setting: Setting, place: OnMesh, step: Any, arguments: tuple) -> Compiled:
    stacked = _stacked(setting, arguments)
    if stacked:
        state, shared, batch = arguments
        state, batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((setting.ensemble, *x.shape), x.dtype), (state, batch)
        )
        arguments = (state, shared, batch)
        step = vmapped(step, place.lane_axis)
    try:
        with unwritten():
            program = compile_step(step, arguments, place, stacked)
    except jax.errors.JaxRuntimeError as error:
        return {"total": bytes_wanted(error)}, None
    return program.memory, program.seconds


def _stacked(setting: Setting, arguments: tuple) -> bool:
    return setting.ensemble > 1 and "inner" in arguments[2]  # one lane finetunes the average


def _limit(setting: Setting) -> int:
    chip = setting.topology.chip
    return device_memory() // setting.topology.size if chip is None else chip.memory or 0


def bytes_wanted(error: Exception) -> int:
    """Bytes a program wanted, from the compiler's refusal of it."""
    # "Used 24.60G of 15.75G hbm"; by libtpu 0.0.52 "temporaries (19.52G) exceeds available HBM".
    found = re.search(r"(?:Used |\()([\d.]+)([KMGT])(?: of|\) exceeds)", str(error))
    if found is None:
        raise error
    return int(float(found[1]) * {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}[found[2]])
