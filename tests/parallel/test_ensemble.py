"""Lanes that advance in one compiled step."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from blomix.recipe.drive import run_phase
from blomix.recipe.phase import Unrecorded
from blomix.recipe.program import build, device_memory, stack
from blomix.recipe.progress import Progress

QUIET = Progress(quiet=True)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_together_equals_one_by_one_to_rounding(search):
    alone, together = Unrecorded(), Unrecorded()
    one = run_phase(search(), alone, QUIET)
    all_ = run_phase(search(), together, QUIET, width=3)
    for lane_alone, lane_together in zip(one, all_, strict=True):
        for a, b in zip(leaves(lane_alone), leaves(lane_together), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(leaves(one[0])[0], leaves(one[1])[0])

    def losses(recorder):
        return {(r["lane"], r["step"]): r["outer_loss"] for r in recorder.records}

    assert losses(alone) == pytest.approx(losses(together), rel=1e-5)
    assert len(losses(alone)) == 3 * 4


def test_same_program_and_width_give_the_same_bits(search):
    first = run_phase(search(), Unrecorded(), QUIET, width=3)
    again = run_phase(search(), Unrecorded(), QUIET, width=3)
    for a, b in zip(leaves(first), leaves(again), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_lane_does_not_depend_on_its_neighbours(search):
    """Lane 0 beside other lanes, in the same program: the same bits."""
    phase = search()
    others = replace(phase, batch=lambda lane, t: phase.batch(lane + 5 if lane else 0, t))
    one = run_phase(phase, Unrecorded(), QUIET, width=3)
    other = run_phase(others, Unrecorded(), QUIET, width=3)
    for a, b in zip(leaves(one[0]), leaves(other[0]), strict=True):
        assert a.tobytes() == b.tobytes()
    assert leaves(one[1])[0].tobytes() != leaves(other[1])[0].tobytes()


def test_pretrained_weights_are_shared_not_copied(search):
    """Each lane more takes its own state and batch, never a copy of what the lanes share."""
    two, three = (
        build(stack(search(), range(width)), stacked=True).memory["arguments"] for width in (2, 3)
    )
    shared = sum(leaf.nbytes for leaf in jax.tree.leaves(search().shared))
    assert two - 2 * (three - two) == pytest.approx(shared, abs=64)


def test_equal_steps_compile_once(search):
    assert build(search()) is build(search())


def test_building_allocates_nothing(search):
    phase = search()
    before = len(jax.live_arrays())
    build(stack(phase, range(3)), stacked=True)
    assert len(jax.live_arrays()) == before


def test_device_memory_is_a_number_of_bytes():
    assert device_memory() > 1e8
