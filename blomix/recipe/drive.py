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


def drive(fits: Sequence[Fit], recorder: Recorder, progress: Progress, together: bool = False):
    """Runs methods in lockstep to their end.

    All `fits` must be one method under several seeds: they yield the same phases with other lanes,
    which are merged. With `together` the lanes of a phase advance in one compiled step.

    Returns:
      What each fit returned; the steps and the gradient evaluations of one of them.
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
        width = len(phases[0].lanes)
        gradients += width * phases[0].steps * phases[0].gradients
        steps += width * phases[0].steps
        results = run_phase(_merge(phases), recorder, progress, together)
        sent = [results[i * width : (i + 1) * width] for i in range(len(phases))]


def run_phase(phase: Phase, recorder: Recorder, progress: Progress, together: bool = False) -> list:
    """Advances every lane of `phase` to its last step and returns the lanes' results."""
    if not together or len(phase.lanes) == 1:
        return [_run_lane(phase, lane, recorder, progress) for lane in range(len(phase.lanes))]
    final = _run_lane(_stack(phase), 0, recorder, progress, width=len(phase.lanes))
    return [jax.tree.map(lambda x, i=i: x[i], final) for i in range(len(phase.lanes))]


def _run_lane(
    phase: Phase, lane: int, recorder: Recorder, progress: Progress, width: int | None = None
):
    """One lane to its result, or `width` lanes stacked in one."""
    name = f"{phase.name}/{lane}"
    # The first step donates its state, whose leaves may be the shared weights themselves.
    state = jax.tree.map(jnp.copy, phase.lanes[lane])
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
            for record in _records(metrics, lane, width):
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
    first, width = phases[0], len(phases[0].lanes)
    return replace(
        first,
        lanes=[lane for phase in phases for lane in phase.lanes],
        batch=lambda lane, t: phases[lane // width].batch(lane % width, t),
        rows=lambda lane, t: phases[lane // width].rows(lane % width, t),
    )


def _stack(phase: Phase) -> Phase:
    """A phase of one lane whose leaves carry all lanes on a leading axis."""
    lanes = range(len(phase.lanes))
    return replace(
        phase,
        step=_vmapped(phase.step),
        lanes=[jax.tree.map(lambda *x: jnp.stack(x), *phase.lanes)],
        batch=lambda _, t: jax.tree.map(
            lambda *x: np.stack(x), *(phase.batch(i, t) for i in lanes)
        ),
        rows=lambda _, t: [row for i in lanes for row in phase.rows(i, t)],
        result=jax.vmap(phase.result),
    )


def compiled_memory(phase: Phase, together: bool = False) -> dict[str, int]:
    """Bytes of one step of `phase`, by the compiler's account."""
    if together and len(phase.lanes) > 1:
        phase = _stack(phase)
    arguments = (phase.lanes[0], phase.shared, phase.batch(0, 0))
    memory = _compiled(phase.step).lower(*arguments).compile().memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
    }


def _records(metrics: dict, lane: int, width: int | None) -> list[dict]:
    """Metrics of one step as log records, one a lane."""
    if width is None:
        return [{"lane": lane} | {name: np.asarray(v).tolist() for name, v in metrics.items()}]
    return [
        {"lane": lane} | {name: np.asarray(v)[lane].tolist() for name, v in metrics.items()}
        for lane in range(width)
    ]
