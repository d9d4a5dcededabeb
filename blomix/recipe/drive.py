"""The training loop."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from blomix.recipe.phase import Fit, Fitted, Phase, Recorder
from blomix.recipe.progress import Progress
from blomix.runs import finite


def drive(fits: Sequence[Fit], recorder: Recorder, progress: Progress, width: int = 1):
    """Runs methods in lockstep to their end.

    All `fits` must be one method under several seeds (or rates, which lie in the state): they yield
    the same phases with other lanes, and those lanes are merged. `width` lanes of a phase advance
    in one compiled step, then the next `width`.

    Returns:
      What each fit returned; the steps and the gradient evaluations of one of them.

    Raises:
      ValueError: the fits yield different phases.
    """
    fitted: list[Fitted] = []
    sent: list = [None] * len(fits)
    gradients, steps = 0.0, 0
    while True:
        phases = []
        for fit, results in zip(fits, sent, strict=True):
            try:
                phases.append(fit.send(results))
            except StopIteration as stop:
                fitted.append(stop.value)
        if not phases:
            return fitted, steps, gradients
        lanes = len(phases[0].lanes)
        gradients += lanes * phases[0].steps * phases[0].gradients
        steps += lanes * phases[0].steps
        results = run_phase(_merge(phases), recorder, progress, width)
        sent = [results[i * lanes : (i + 1) * lanes] for i in range(len(phases))]


def account(fit: Fit) -> tuple[int, float]:
    """Steps and gradient evaluations of a method, found by passing its phases without training."""
    gradients, steps, results = 0.0, 0, None
    while True:
        try:
            phase = fit.send(results)
        except StopIteration:
            return steps, gradients
        steps += len(phase.lanes) * phase.steps
        gradients += len(phase.lanes) * phase.steps * phase.gradients
        results = [phase.result(lane()) for lane in phase.lanes]


def run_phase(phase: Phase, recorder: Recorder, progress: Progress, width: int = 1) -> list:
    """Advances every lane of `phase` to its last step and returns the lanes' results."""
    results = []
    for first in range(0, len(phase.lanes), width):
        lanes = range(first, min(first + width, len(phase.lanes)))
        if len(lanes) == 1:
            results.append(_run_lane(phase, first, recorder, progress))
        else:
            final = _run_lane(_stack(phase, lanes), first, recorder, progress, lanes)
            results += [jax.tree.map(lambda x, i=i: x[i], final) for i in range(len(lanes))]
    return results


def _run_lane(
    phase: Phase, lane: int, recorder: Recorder, progress: Progress, stacked: range | None = None
):
    """One lane to its result; `stacked` are the lanes that it is made of, if it is."""
    name = f"{phase.name}/{lane}"
    # The first step donates its state, whose leaves may be the shared weights themselves.
    state = jax.tree.map(jnp.copy, phase.lanes[0 if stacked else lane]())
    start, restored = recorder.restore(name, state, jax.eval_shape(phase.result, state)) or (
        0,
        None,
    )
    if recorder.finished(name):
        return restored
    state = state if restored is None else restored
    step = _compiled(phase.step)
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

    with progress.phase(name, start, phase.steps) as tick:
        for t in range(start, phase.steps):
            state, metrics = step(state, phase.shared, phase.batch(lane, t))
            flush()
            pending = (t, metrics)
            tick()
            if recorder.stopping or recorder.due:
                flush()
                recorder.stop_if_asked(name, t + 1, state)
                recorder.save(name, t + 1, state)
        flush()
    result = phase.result(state)
    finite.check(phase.steps, {}, result, phase.rows(lane, phase.steps - 1))
    recorder.save(name, phase.steps, result, final=True)
    return result


@lru_cache(maxsize=64)
def _compiled(step):
    """One jitted function a step, so that the lanes of a phase compile once."""
    return jax.jit(step, donate_argnums=0)


@lru_cache(maxsize=64)
def _vmapped(step):
    return jax.vmap(step, in_axes=(0, None, 0))


def _merge(phases: list[Phase]) -> Phase:
    """One phase with the lanes of all: the lanes of the first, then of the second, and so on."""
    first, each = phases[0], len(phases[0].lanes)
    for phase in phases:
        if (phase.step, phase.steps, len(phase.lanes)) != (first.step, first.steps, each):
            raise ValueError(f"phase {first.name}: these runs cannot advance in lockstep")
    return replace(
        first,
        lanes=[lane for phase in phases for lane in phase.lanes],
        batch=lambda lane, t: phases[lane // each].batch(lane % each, t),
        rows=lambda lane, t: phases[lane // each].rows(lane % each, t),
    )


def _stack(phase: Phase, lanes: range) -> Phase:
    """A phase of one lane whose leaves carry `lanes` on a leading axis."""
    return replace(
        phase,
        step=_vmapped(phase.step),
        lanes=[lambda: jax.tree.map(lambda *x: jnp.stack(x), *(phase.lanes[i]() for i in lanes))],
        batch=lambda _, t: jax.tree.map(
            lambda *x: np.stack(x), *(phase.batch(i, t) for i in lanes)
        ),
        rows=lambda _, t: [row for i in lanes for row in phase.rows(i, t)],
        result=jax.vmap(phase.result),
    )


def compiled_memory(phase: Phase, width: int = 1) -> dict[str, int]:
    """Bytes of one step of `phase`, by the compiler's account."""
    lanes = range(min(width, len(phase.lanes)))
    if len(lanes) > 1:
        phase = _stack(phase, lanes)
    arguments = (phase.lanes[0](), phase.shared, phase.batch(0, 0))
    memory = _compiled(phase.step).lower(*arguments).compile().memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }


def _records(metrics: dict, lanes: int | range) -> list[dict]:
    """Metrics of one step as log records, one a lane."""
    if isinstance(lanes, int):
        return [{"lane": lanes} | {name: np.asarray(v).tolist() for name, v in metrics.items()}]
    return [
        {"lane": lane} | {name: np.asarray(v)[i].tolist() for name, v in metrics.items()}
        for i, lane in enumerate(lanes)
    ]
