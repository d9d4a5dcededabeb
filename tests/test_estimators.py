"""The rival estimators, each held to what its equation says."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from blomix import BilevelProblem, InputError, Mixup
from blomix.bilevel import adamw
from blomix.hypergradient import (
    ESTIMATORS,
    ConjugateGradient,
    FiniteDifference,
    FirstOrder,
    Neumann,
    Truncated,
)
from blomix.hypergradient.unrolled import plain_gradient, unroll
from tests.numeric import KEY, draw, jit, relative_error

pytestmark = pytest.mark.usefixtures("float64")
UNROLL = 3


def loss(params, batch, key):
    hidden = jnp.tanh(batch["x"] @ params["in"] + params["bias"])
    hidden *= jax.random.bernoulli(key, 0.8, hidden.shape)
    return jnp.mean((hidden @ params["out"] - batch["y"]) ** 2)


PRETRAINED = {"in": draw(0, 3, 5), "bias": draw(1, 5), "out": draw(2, 5, 2)}
TASK = {name: w + 0.3 * draw(9, *w.shape) for name, w in PRETRAINED.items()}
INNER = {"x": draw(3, UNROLL, 6, 3), "y": draw(4, UNROLL, 6, 2)}
OUTER = {"x": draw(5, 6, 3), "y": draw(6, 6, 2)}
DATA = (PRETRAINED, INNER, OUTER)


def start(estimator, inner=None):
    problem = BilevelProblem(
        loss,
        Mixup(init=0.7),
        inner or adamw(0.05),
        optax.sgd(0.1),
        UNROLL,
        hypergradient=estimator,
    )
    return problem, problem.init(KEY, PRETRAINED, task=TASK)


@cache
def hypergradient(estimator):
    problem, state = start(estimator)
    return jit(problem.hypergradient)(state, *DATA)


@cache
def outer_step(estimator):
    problem, state = start(estimator)
    return jit(problem.step)(state, *DATA)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_step_reports_the_same_losses_and_task(estimator):
    after, metrics = outer_step(estimator)
    expected, expected_metrics = outer_step("exact")
    jax.tree.map(np.testing.assert_allclose, after.task, expected.task)
    for name in ("inner_loss", "outer_loss", "gradient_norm", "update_norm"):
        np.testing.assert_allclose(metrics[name], expected_metrics[name])
    assert np.isfinite(metrics["hypergradient_norm"])
    assert ESTIMATORS[estimator].cost(UNROLL) >= FirstOrder().cost(UNROLL)


@pytest.mark.parametrize("estimator", ["exact", "conjugate_gradient"])
def test_the_outer_loss_can_be_a_part_of_a_larger_function(estimator):
    """Whatever rule it brings, its derivative takes part in the chain rule of `jax.grad`."""
    problem, state = start(estimator)
    setting = problem._setting(state, *DATA)

    def penalised(alpha):
        value, outcome = problem.estimator.outer_loss(setting, alpha)
        return value**2 + optax.tree.norm(alpha, squared=True), (value, outcome)

    found, (value, outcome) = jit(jax.grad(penalised, has_aux=True))(state.alpha)
    expected = jax.tree.map(
        lambda g, a: 2 * value * g + 2 * a, hypergradient(estimator), state.alpha
    )
    assert relative_error(found, expected) < 1e-12
    assert relative_error(outcome.task, outer_step(estimator)[0].task) < 1e-12


def test_the_finite_difference_converges_in_the_square_of_its_step():
    exact = hypergradient("exact")
    coarse, fine = (relative_error(hypergradient(FiniteDifference(s)), exact) for s in (0.1, 0.01))
    assert fine < 1e-3
    assert coarse / fine == pytest.approx(100, rel=0.2)


def test_absent_tokens_take_no_part_of_the_finite_difference():
    # Rows that no inner batch has, and the outer one does: under Adam their cotangent is 1e6 times
    # the others', and would be all of a step whose length is given, which float32 does not bear.
    def loss(params, batch, key):
        hidden = jnp.tanh(params["embedding"][batch["ids"]] @ params["kernel"])
        return jnp.mean((hidden - batch["y"]) ** 2)

    def of(estimator):
        return BilevelProblem(loss, Mixup(init=0.7), adamw(0.05), hypergradient=estimator)

    pretrained = {"embedding": draw(0, 9, 3), "kernel": draw(1, 3, 2)}
    pretrained = {name: w.astype(np.float32) for name, w in pretrained.items()}
    inner = {"ids": np.arange(6).reshape(1, 6) % 5, "y": draw(2, 1, 6, 2).astype(np.float32)}
    outer = {"ids": np.arange(6) + 3, "y": draw(3, 6, 2).astype(np.float32)}
    seen = jax.tree.map(lambda x: x[0], inner)
    state = of("exact").init(KEY, pretrained)
    for _ in range(3):  # Adam's first step is a sign, which has no derivative
        state, _ = jit(of("exact").step)(state, pretrained, inner, seen)
    exact, difference, direct = (
        jit(of(way).hypergradient)(state, pretrained, inner, outer)
        for way in ("exact", "finite_difference", "first_order")
    )
    indirect = optax.tree.sub(exact, direct)
    assert relative_error(optax.tree.sub(difference, direct), indirect) < 0.01


def test_fresh_dropout_masks_ruin_the_finite_difference():
    assert (
        relative_error(hypergradient(FiniteDifference(fresh_keys=True)), hypergradient("exact")) > 1
    )


def test_a_displacement_that_is_not_undone_lowers_the_outer_loss():
    def without_dropout(params, batch, key):
        return loss(params, batch, jax.random.key(1))

    def problem(estimator):
        return BilevelProblem(
            without_dropout, Mixup(init=0.7), adamw(0.01), unroll=UNROLL, hypergradient=estimator
        )

    restored, displaced = (
        jit(p.step)(p.init(KEY, PRETRAINED, task=TASK), *DATA)[0]
        for p in (problem("finite_difference"), problem(FiniteDifference(0.02, restore=False)))
    )
    moved = optax.tree.norm(optax.tree.sub(displaced.task, restored.task))
    np.testing.assert_allclose(moved, 0.02, rtol=1e-6)
    p = problem("exact")

    def outer_loss(task):
        mixed = p.mixup.mix(restored.alpha, task, PRETRAINED)
        return without_dropout(mixed, OUTER, KEY)

    assert outer_loss(displaced.task) < outer_loss(restored.task)


@pytest.mark.parametrize("steps", [1, 2])
def test_truncated_stops_the_derivative_at_the_last_steps(steps):
    problem, state = start(Truncated(steps))
    setting = problem._setting(state, *DATA)
    head, tail = (
        setting._replace(inner_data=jax.tree.map(lambda x, part=part: x[part], setting.inner_data))
        for part in (slice(UNROLL - steps), slice(UNROLL - steps, None))
    )

    @jit
    @jax.grad
    def expected(alpha):
        (task, inner_state), _ = unroll(head, plain_gradient, jax.lax.stop_gradient(alpha))
        rest = tail._replace(task=task, inner_state=inner_state)
        (task, _), _ = unroll(rest, plain_gradient, alpha)
        return setting.f(task, alpha, (setting.shared, setting.outer_data))[0]

    assert relative_error(hypergradient(Truncated(steps)), expected(state.alpha)) < 1e-9


def test_truncated_at_full_length_is_exact():
    assert relative_error(hypergradient(Truncated(UNROLL)), hypergradient("exact")) < 1e-12


def test_first_order_is_the_direct_part():
    problem, state = start(FirstOrder())
    setting = problem._setting(state, *DATA)
    (task, _), _ = jit(lambda alpha: unroll(setting, plain_gradient, alpha))(state.alpha)
    mix, last = problem.mixup.mix, setting.outer_data[1]
    expected = jax.grad(lambda alpha: loss(mix(alpha, task, PRETRAINED), OUTER, last))(state.alpha)
    assert relative_error(hypergradient(FirstOrder()), expected) < 1e-9


@pytest.mark.parametrize(
    "estimator", [Neumann(terms=400, step_size=0.5), ConjugateGradient(30, damping=0.0)]
)
def test_the_implicit_estimators_at_a_minimum(estimator):
    """At the minimum of a loss of mixed weights these do not depend on alpha: the direct part,
    which is not 0, and the indirect one cancel."""
    target = draw(0, 3, 4)
    curvature = 0.5 + np.abs(draw(1, 3, 4))

    def quadratic(params, batch, key):
        return 0.5 * jnp.sum(curvature * (params["w"] - batch) ** 2)

    pretrained = {"w": draw(2, 3, 4)}
    mixup = Mixup("full", init=0.8)
    task = {"w": pretrained["w"] + (target - pretrained["w"]) / 0.8}

    def run(estimator):
        problem = BilevelProblem(quadratic, mixup, optax.sgd(0.0), hypergradient=estimator)
        state = problem.init(KEY, pretrained, task=task)
        return jit(problem.hypergradient)(state, pretrained, target[None], target + 1)["w"]

    direct = np.linalg.norm(run("first_order"))
    assert direct > 1
    assert np.linalg.norm(run(estimator)) < 1e-8 * direct


@pytest.mark.parametrize("estimator", ["exact", "finite_difference"])
def test_bfloat16_compute_keeps_float32_sums(estimator):
    def half_loss(params, batch, key):
        params, batch = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, batch))
        return loss(params, batch, key).astype(jnp.float32)

    single = jax.tree.map(lambda x: np.asarray(x, np.float32), (PRETRAINED, TASK, INNER, OUTER))
    pretrained, task, *batches = single

    def run(loss):
        problem = BilevelProblem(
            loss, Mixup(init=0.7), adamw(0.05), unroll=UNROLL, hypergradient=estimator
        )
        state = problem.init(KEY, pretrained, task=task)
        return jit(problem.hypergradient)(state, pretrained, *batches)

    found = run(half_loss)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    error = relative_error(found, run(loss))
    assert 1e-4 < error < {"exact": 0.03, "finite_difference": 0.3}[estimator]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiniteDifference(scale=0), "scale should be positive"),
        (lambda: Truncated(0), "steps should be at least 1"),
        (lambda: Neumann(terms=-1), "terms should be at least 0"),
        (lambda: ConjugateGradient(damping=-1), "damping at least 0"),
    ],
)
def test_options_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()
