"""The learning curve finds a law that is known."""

import numpy as np
import pytest

from blomix.pilot.curve import fit


def scores(a, b, c, sizes=(25, 50, 100, 200), splits=6, noise=0.0):
    rng = np.random.default_rng(0)
    return {n: (a - b * n**-c + noise * rng.normal(size=splits)).tolist() for n in sizes}


def test_a_law_within_the_range_of_exponents_is_covered_where_it_was_not_seen():
    curve = fit(scores(0.9, 2.0, 0.5, noise=0.01))
    for n in (100, 400, 800):
        found = curve.at(n)
        assert found.low <= 0.9 - 2.0 * n**-0.5 <= found.high


def test_further_away_is_less_certain():
    curve = fit(scores(0.9, 2.0, 0.5, noise=0.01))
    widths = [curve.at(n).high - curve.at(n).low for n in (200, 800, 3200)]
    assert widths == sorted(widths)


def test_the_labels_for_a_target_cover_the_true_number():
    needed = fit(scores(0.9, 2.0, 0.5, noise=0.005)).labels_for(0.82)
    assert needed.low <= (2.0 / 0.08) ** 2 <= needed.high


def test_a_target_above_the_ceiling_is_out_of_reach():
    assert np.isinf(fit(scores(0.7, 2.0, 0.5)).labels_for(0.99).value)


def test_a_flat_curve_gains_nothing():
    curve = fit(scores(0.8, 0.0, 0.5))
    assert curve.gain(200, 400).high == pytest.approx(0, abs=1e-9)


def test_one_size_is_no_curve():
    assert fit({100: [0.5, 0.6]}) is None
