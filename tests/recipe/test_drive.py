"""What a driver does with a phase, whatever the phase does."""

import dataclasses
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blomix.recipe.drive import drive, run_phase
from blomix.recipe.phase import Phase, Unrecorded
from blomix.recipe.progress import Progress


class Stopped(Unrecorded):
    """A run that stopped after `step` steps, with the state that it had; or after the last one."""

    def __init__(self, step, state, *, finished=False):
        super().__init__()
        self.kept, self.is_finished = (step, state), finished

    def restore(self, phase, like, like_final=None):
        wanted = like_final if self.is_finished else like
        assert jax.tree.map(jnp.shape, wanted) == jax.tree.map(jnp.shape, self.kept[1])
        return self.kept

    def finished(self, phase):
        return self.is_finished


@pytest.fixture
def counting():
    """A phase that counts to three in `w`, and the list of its first states that were made."""
    made = []

    def first():
        w = jnp.zeros(3)
        if not isinstance(w, jax.core.Tracer):
            made.append(w)
        return {"w": w, "moment": w}

    phase = Phase(
        name="count",
        step=lambda state, shared, batch: (state | {"w": state["w"] + 1}, {"loss": state["w"][0]}),
        lanes=[first],
        shared={},
        batch=lambda lane, t: {},
        rows=lambda lane, t: [],
        steps=3,
        result=lambda state: state["w"],
    )
    return phase, made


def test_a_new_lane_starts_from_its_first_state(counting):
    phase, made = counting
    [result] = run_phase(phase, Unrecorded(), Progress(quiet=True))
    assert result.tolist() == [3, 3, 3]
    assert len(made) == 1


@pytest.mark.parametrize("finished", [False, True])
def test_no_first_state_takes_memory_beside_a_restored_one(counting, finished):
    phase, made = counting
    w = jnp.full(3, 10.0)
    kept = (3, w) if finished else (2, {"w": w, "moment": w + 0})
    [result] = run_phase(phase, Stopped(*kept, finished=finished), Progress(quiet=True))
    np.testing.assert_array_equal(result, [10 if finished else 11] * 3)
    assert made == []


def test_results_that_a_method_has_let_go_take_no_memory(counting):
    phase, _ = counting
    alive = []

    def fit():
        [first] = yield phase
        kept = weakref.ref(first)
        del first

        def batch(lane, t):
            alive.append(kept() is not None)
            return {}

        yield dataclasses.replace(phase, batch=batch)

    drive([fit()], Unrecorded(), Progress(quiet=True))
    assert alive
    assert not any(alive)


@pytest.mark.parametrize("consumes", [False, True])
def test_a_phase_leaves_its_first_states_alone_or_takes_them(counting, consumes):
    phase, _ = counting
    state = {"w": jnp.zeros(3), "moment": jnp.ones(3)}
    phase = dataclasses.replace(phase, lanes=[lambda: state], consumes=consumes)
    [result] = run_phase(phase, Unrecorded(), Progress(quiet=True))
    assert result.tolist() == [3, 3, 3]
    assert state["w"].is_deleted() == consumes
