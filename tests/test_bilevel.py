import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from blomix import BilevelProblem, InputError, Mixup
from blomix.bilevel import adamw
from blomix.hypergradient import ESTIMATORS

KEY = jax.random.key(0)
STEPS = 2


def loss(params, batch, key):
    hidden = jnp.tanh(params["embedding"][batch["ids"]] @ params["kernel"] + params["bias"])
    hidden *= jax.random.bernoulli(key, 0.9, hidden.shape)
    return jnp.mean((hidden - batch["targets"]) ** 2)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def batch(seed, *lead):
    ids = np.random.default_rng(seed).integers(0, 5, size=(*lead, 6))
    return {"ids": ids, "targets": draw(seed, *lead, 6, 4)}


PRETRAINED = {
    "embedding": draw(0, 7, 3),  # no batch holds the last two rows
    "kernel": draw(1, 3, 4),
    "bias": draw(2, 4),
    "version": np.arange(3),
}
INNER, OUTER = batch(0, STEPS), batch(1)


def problem(**options):
    options = {"inner": adamw(0.01), "outer": optax.adam(0.01), "unroll": STEPS} | options
    return BilevelProblem(loss, Mixup(init=0.8), **options)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_unused_embedding_row_gives_a_finite_hypergradient(name):
    p = problem(hypergradient=name)
    grads = jax.jit(p.hypergradient)(p.init(KEY, PRETRAINED), PRETRAINED, INNER, OUTER)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "inner",
    [
        optax.adam(0.01),
        # Asks for the loss.
        optax.chain(optax.adam(0.01), optax.contrib.reduce_on_plateau()),
    ],
    ids=["adam", "plateau"],
)
def test_adam_without_eps_root_is_warned_about_and_would_give_nan(inner):
    p = problem(inner=inner)
    with pytest.warns(UserWarning, match=r"no finite derivative .*eps_root=1e-16"):
        state = p.init(KEY, PRETRAINED)
    grads = jax.jit(p.hypergradient)(state, PRETRAINED, INNER, OUTER)
    assert not all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "inner",
    [
        optax.sgd(0.1),
        optax.sgd(0.1, momentum=0.9),
        optax.chain(optax.clip_by_global_norm(1.0), adamw(0.1)),
        optax.masked(adamw(0.1), lambda params: jax.tree.map(lambda x: x.ndim > 1, params)),
    ],
)
def test_differentiable_optimizers_are_not_warned_about(inner):
    problem(inner=inner).init(KEY, PRETRAINED)


def test_step_trains_float_leaves_and_moves_alpha():
    p = problem()
    state = p.init(KEY, PRETRAINED)
    after, metrics = jax.jit(p.step)(state, PRETRAINED, INNER, OUTER)
    assert int(after.step) == 1
    np.testing.assert_array_equal(after.task["version"], PRETRAINED["version"])
    for name in ("kernel", "bias"):
        assert np.any(after.task[name] != state.task[name])
    assert np.any(after.alpha["kernel"]["row"] != state.alpha["kernel"]["row"])
    assert metrics.keys() == {
        "inner_loss",
        "outer_loss",
        "gradient_norm",
        "hypergradient_norm",
        "update_norm",
        "alpha_update_norm",
    }
    assert all(np.isfinite(value) and value > 0 for value in metrics.values())


def test_step_is_the_optimizers_on_the_hypergradient():
    p = problem()
    state = p.init(KEY, PRETRAINED)
    after, _ = jax.jit(p.step)(state, PRETRAINED, INNER, OUTER)
    grads = jax.jit(p.hypergradient)(state, PRETRAINED, INNER, OUTER)
    updates, _ = optax.adam(0.01).update(grads, state.outer_state, state.alpha)
    expected = optax.apply_updates(state.alpha, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after.alpha, expected)


def test_alpha_stays_in_the_unit_interval():
    p = problem(outer=optax.sgd(1e5))
    state, _ = jax.jit(p.step)(p.init(KEY, PRETRAINED), PRETRAINED, INNER, OUTER)
    alphas = np.concatenate([np.ravel(a) for a in jax.tree.leaves(state.alpha)])
    assert alphas.min() == 0.0
    assert alphas.max() == 1.0


def test_keys_come_from_the_state_and_the_step():
    p = problem()
    step = jax.jit(p.step)
    state = p.init(KEY, PRETRAINED)
    first, again = (step(state, PRETRAINED, INNER, OUTER)[1]["inner_loss"] for _ in range(2))
    later = step(jax.tree.map(lambda x: x, _at(state, 1)), PRETRAINED, INNER, OUTER)[1][
        "inner_loss"
    ]
    assert first == again != later


def _at(state, step):
    return type(state)(**{**vars(state), "step": jnp.asarray(step, jnp.int32)})


def test_lookahead_redoes_the_inner_steps_with_the_new_alpha():
    carried, redone = problem(), problem(lookahead=True)
    state = carried.init(KEY, PRETRAINED)
    after, _ = jax.jit(carried.step)(state, PRETRAINED, INNER, OUTER)
    ahead, _ = jax.jit(redone.step)(state, PRETRAINED, INNER, OUTER)
    jax.tree.map(np.testing.assert_array_equal, after.alpha, ahead.alpha)
    new_alpha = type(state)(**{**vars(state), "alpha": after.alpha})
    expected, _ = jax.jit(carried.step)(new_alpha, PRETRAINED, INNER, OUTER)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        ahead.task,
        expected.task,
    )
    assert np.any(ahead.task["kernel"] != after.task["kernel"])


def test_aux_is_reported():
    def with_aux(params, batch, key):
        return loss(params, batch, key), {"count": jnp.sum(batch["ids"]), "key": key, "rows": 6}

    p = BilevelProblem(with_aux, Mixup(), adamw(0.01), unroll=STEPS, has_aux=True)
    _, metrics = jax.jit(p.step)(p.init(KEY, PRETRAINED), PRETRAINED, INNER, OUTER)
    np.testing.assert_array_equal(metrics["inner_aux"]["count"], INNER["ids"].sum(-1))
    assert metrics["outer_aux"]["count"] == OUTER["ids"].sum()
    assert metrics["inner_aux"]["rows"].tolist() == [6] * STEPS  # a plain number


def test_init_takes_a_task_and_an_alpha():
    p = problem()
    state = p.init(KEY, PRETRAINED)
    task = jax.tree.map(lambda x: x + 1, PRETRAINED)
    alpha = jax.tree.map(lambda x: x * 0.5, state.alpha)
    given = p.init(KEY, PRETRAINED, task=task, alpha=alpha)
    jax.tree.map(np.testing.assert_array_equal, given.task, task)
    jax.tree.map(np.testing.assert_array_equal, given.alpha, alpha)


def test_a_finer_alpha_follows_what_one_of_16_bits_does_not():
    coarse = {name: jnp.asarray(w, jnp.bfloat16) for name, w in PRETRAINED.items()}
    p = problem(outer=optax.sgd(1e-3))
    with pytest.warns(UserWarning, match=r"alpha is bfloat16 \(at 'embedding/.*0\.004"):
        start = p.init(KEY, coarse).alpha
    fine = jax.tree.map(lambda a: a.astype(jnp.float32), start)
    state, _ = jax.jit(p.step)(p.init(KEY, coarse, alpha=fine), coarse, INNER, OUTER)
    assert state.task["kernel"].dtype == jnp.bfloat16
    assert p.mixup.mix(state.alpha, state.task, coarse)["kernel"].dtype == jnp.bfloat16
    moved = jax.tree.map(lambda after, before: bool((after != before).any()), state.alpha, fine)
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("inner", [adamw(0.01), optax.contrib.prodigy()], ids=["adamw", "prodigy"])
@pytest.mark.filterwarnings("ignore:the inner optimizer's update has no finite derivative")
def test_the_state_may_be_donated(inner):
    p = problem(inner=inner)
    pretrained = jax.tree.map(jnp.asarray, PRETRAINED)
    state = p.init(KEY, pretrained)
    step = jax.jit(p.step, donate_argnums=0)
    state, _ = step(state, pretrained, INNER, OUTER)
    step(state, pretrained, INNER, OUTER)


def test_works_under_eval_shape_and_vmap():
    p = problem()
    like = jax.eval_shape(p.init, KEY, PRETRAINED)
    after, _ = jax.eval_shape(p.step, like, PRETRAINED, INNER, OUTER)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), like
    )
    states = jax.vmap(p.init, in_axes=(0, None))(jax.random.split(KEY, 3), PRETRAINED)
    step = jax.jit(p.step)
    many = jax.jit(jax.vmap(p.step, in_axes=(0, None, None, None)))
    lanes, _ = many(states, PRETRAINED, INNER, OUTER)
    for i in range(3):
        alone, _ = step(jax.tree.map(lambda x, i=i: x[i], states), PRETRAINED, INNER, OUTER)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),
            (lanes.task, lanes.alpha),
            (alone.task, alone.alpha),
        )


def test_errors():
    with pytest.raises(InputError, match="hypergradient should be one of"):
        problem(hypergradient="forward")
    with pytest.raises(InputError, match="unroll should be a whole number of at least 1"):
        problem(unroll=0)
    p = problem()
    state = p.init(KEY, PRETRAINED)
    with pytest.raises(
        InputError, match=r"leaf 'ids' should have a leading axis .* 2, found .*\(6,\)"
    ):
        p.step(state, PRETRAINED, OUTER, OUTER)
    with pytest.raises(InputError, match="task lacks the leaf 'bias'"):
        p.init(KEY, PRETRAINED, task={k: v for k, v in PRETRAINED.items() if k != "bias"})
    with pytest.raises(InputError, match="alpha has the extra leaf 'bias'"):
        p.init(KEY, PRETRAINED, alpha={**state.alpha, "bias": np.ones(4)})
