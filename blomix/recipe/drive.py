"""The training loop."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from blomix.recipe.phase import Fit, Fitted, Phase, Recorder
from blomix.recipe.program import (
    ONE_DEVICE,
    Placement,
    Program,
    build,
    check_fits,
    copied,
    merge,
    placed,
    stack,
    unstacked,
)
from blomix.recipe.progress import Progress
from blomix.runs import finite
from blomix.runs.processes import Ballot


def drive(
    fits: Sequence[Fit],
    recorder: Recorder,
    progress: Progress,
    width: int = 1,
    place: Placement = ONE_DEVICE,
):
    """Runs methods in lockstep to their end.

    All `fits` must be one method under several seeds (or rates, which lie in the state): they yield
    the same phases with other lanes, and those lanes are merged. `width` lanes of a phase advance
    in one compiled step, then the next `width`.

    Returns:
      What each fit returned; the optimizer steps and the gradient evaluations of one of them.

    Raises:
      ValueError: the fits yield different phases.
    """
    fitted: list[Fitted] = []
    sent: list[Any] = [None] * len(fits)
    gradients, steps = 0.0, 0
    while True:
        phases = _advance(fits, sent, fitted)
        if not phases:
            return fitted, steps, gradients
        lanes = len(phases[0].lanes)
        gradients += lanes * phases[0].steps * phases[0].gradients
        steps += lanes * phases[0].steps * phases[0].updates
        sent = []  # a method keeps what it needs of the last results; the rest is free to go
        sent = _parted(run_phase(merge(phases), recorder, progress, width, place), lanes)


def _advance(fits: Sequence[Fit], sent: Sequence[Any], fitted: list[Fitted]) -> list[Phase]:
    """Sends each method its results: the phases that they yield, and in `fitted` what they return
    who have ended."""
    phases = []
    for fit, results in zip(fits, sent, strict=True):
        try:
            phases.append(fit.send(results))
        except StopIteration as stop:
            fitted.append(stop.value)
    return phases


def _parted(results: list, lanes: int) -> list[list]:
    return [results[i : i + lanes] for i in range(0, len(results), lanes)]


def account(fit: Fit) -> tuple[int, float]:
    """Optimizer steps and gradient evaluations of a method, whose phases are passed untrained."""
    gradients, steps = 0.0, 0
    results: Any = None
    while True:
        try:
            phase = fit.send(results)
        except StopIteration:
            return steps, gradients
        steps += len(phase.lanes) * phase.steps * phase.updates
        gradients += len(phase.lanes) * phase.steps * phase.gradients
        results = [phase.result(lane()) for lane in phase.lanes]


def run_phase(
    phase: Phase,
    recorder: Recorder,
    progress: Progress,
    width: int = 1,
    place: Placement = ONE_DEVICE,
) -> list:
    """Advances every lane of `phase` to its last step and returns the lanes' results.

    Lanes that the devices cannot share out evenly advance one by one, as a single one does.
    """
    results = []
    width = 1 if len(phase.lanes) % place.lanes else width
    for first in range(0, len(phase.lanes), width):
        lanes = range(first, min(first + width, len(phase.lanes)))
        if len(lanes) == 1:
            results.append(_run_lane(phase, first, recorder, progress, place))
        else:
            block = stack(phase, lanes, place)
            final = _run_lane(block, first, recorder, progress, place, lanes)
            results += unstacked(final)
    return results


def _run_lane(
    phase: Phase,
    lane: int,
    recorder: Recorder,
    progress: Progress,
    place: Placement,
    stacked: range | None = None,
):
    """One lane to its result; `stacked` are the lanes that it is made of, if it is."""
    name, together = f"{phase.name}/{lane}", stacked is not None
    first = phase.lanes[0 if together else lane]
    like = jax.eval_shape(first)  # no first state beside a restored one: there may be room for one
    kept = placed(place, "state", jax.eval_shape(phase.result, like), together)
    like = placed(place, "state", like, together)
    start, state = recorder.restore(name, like, kept) or (0, None)
    if recorder.finished(name):
        return place.get(state)
    if state is None:
        # The first step donates it, and a lane's own leaves may be the shared weights themselves.
        own = together or phase.consumes
        state = place.put("state", first() if own else copied(first()), together)
    with progress.compiling(name):
        program = build(phase, place, together)
    check_fits(program, phase.name)
    step = _announced(program, phase, stacked, progress).compiled
    shared = place.put("shared", phase.shared, together)
    pending = None  # metrics are read one step late, so that the device never waits for the host

    def flush():
        nonlocal pending
        if pending is not None:
            t, metrics = pending[0], jax.device_get(pending[1])
            if not all(np.isfinite(value).all() for value in metrics.values()):
                finite.check(t, metrics, state, phase.rows(lane, t))
            for record in _records(metrics, stacked or lane):
                recorder.log({"phase": phase.name, "step": t} | record)
            pending = None

    asked = Ballot()
    with progress.phase(name, start, phase.steps) as tick:
        for t in range(start, phase.steps):
            batch = place.put("batch", phase.batch(lane, t), together)
            state, metrics = step(state, shared, batch)
            flush()
            pending = (t, metrics)
            tick()
            if asked(recorder.stopping or recorder.due):
                flush()
                recorder.stop_if_asked(name, t + 1, state)
                recorder.save(name, t + 1, state)
        flush()
    result = phase.result(state)
    finite.check(phase.steps, {}, result, phase.rows(lane, phase.steps - 1))
    recorder.save(name, phase.steps, result, final=True)
    return place.get(result)


def _announced(
    program: Program, phase: Phase, stacked: range | None, progress: Progress
) -> Program:
    if not program.announced:
        lanes = f"{len(stacked)} lanes together" if stacked else "one lane at a time"
        progress.note(
            f"{phase.name}: compiled for {lanes} in {program.seconds:.1f} s, "
            f"{program.bytes / 1e6:.0f} MB a device"
        )
        program.announced.append(phase.name)
    return program


def _records(metrics: dict, lanes: int | range) -> list[dict]:
    """Metrics of one step as log records, one a lane."""
    if isinstance(lanes, int):
        return [{"lane": lanes} | {name: np.asarray(v).tolist() for name, v in metrics.items()}]
    return [
        {"lane": lane} | {name: np.asarray(v)[i].tolist() for name, v in metrics.items()}
        for i, lane in enumerate(lanes)
    ]
