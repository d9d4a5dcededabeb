"""The exact hypergradient against plain `jax.grad` (1e-9) and central differences (1e-6)."""

from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from blomix import BilevelProblem, Mixup
from blomix.bilevel import adam, adamw
from blomix.hypergradient import Exact
from tests.numeric import KEY, draw, jit, relative_error

pytestmark = pytest.mark.usefixtures("float64")


def model(params, x, key):
    hidden = jnp.tanh(params["embedding"][x] @ params["block_0"]["w"] + params["block_0"]["bias"])
    hidden *= jax.random.bernoulli(key, 0.8, hidden.shape) / 0.8
    hidden = jnp.einsum("bi,lij->blj", hidden, params["stack"]).mean(1)
    return jax.nn.gelu(hidden) @ params["block_0"]["v"]


def loss(params, batch, key):
    return optax.softmax_cross_entropy_with_integer_labels(
        model(params, batch["x"], key), batch["y"]
    ).mean()


def weights(seed=0):
    return {
        "embedding": draw(seed, 6, 3),
        "block_0": {
            "w": draw(seed + 1, 3, 4),
            "bias": draw(seed + 2, 4),
            "v": draw(seed + 3, 5, 3),
        },
        "stack": draw(seed + 4, 2, 4, 5),
        "version": np.arange(2),
    }


def batch(seed, *lead):
    rng = np.random.default_rng(seed)
    return {"x": rng.integers(0, 5, (*lead, 4)), "y": rng.integers(0, 3, (*lead, 4))}


def task_near(pretrained, scale=0.3):
    return jax.tree.map(
        lambda w: w + scale * draw(9, *w.shape) if w.dtype == np.float64 else w, pretrained
    )


def uniform(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, 0.2, 0.9)


def check_exact(loss, pretrained, inner_batches, outer_batch, mixup, inner):
    """Exact against reverse, and against differences of the whole map in random directions."""
    unroll = len(jax.tree.leaves(inner_batches)[0])
    make = partial(BilevelProblem, loss, mixup, inner, optax.sgd(0.1), unroll)
    exact, reverse = make(hypergradient="exact"), make(hypergradient="reverse")
    cheap = make(hypergradient="first_order")  # for the outer loss alone
    # Five points: the error is of order h^4. A small h crosses no kink of clipping or of a sign.
    h = 1e-5
    points, coefficients = np.array([-2, -1, 1, 2]) * h, np.array([1, -8, 8, -1]) / (12 * h)

    state = exact.init(KEY, pretrained, task=task_near(pretrained))

    @jit
    def run(state):
        data = (pretrained, inner_batches, outer_batch)
        found, expected = (p.hypergradient(state, *data) for p in (exact, reverse))
        flat_alpha, unravel = ravel_pytree(state.alpha)

        def outer_loss(flat):
            moved = type(state)(**{**vars(state), "alpha": unravel(flat)})
            return cheap.step(moved, *data)[1]["outer_loss"]

        directions = jax.random.normal(KEY, (3, 1, flat_alpha.size))
        near = (flat_alpha + points[:, None] * directions).reshape(12, -1)
        losses = jax.lax.map(outer_loss, near).reshape(3, 4)
        slopes = directions[:, 0] @ ravel_pytree(found)[0]
        return found, expected, slopes, losses @ coefficients

    found, expected, slopes, differences = run(state)
    assert np.linalg.norm(ravel_pytree(found)[0]) > 1e-4
    assert relative_error(found, expected) < 1e-9
    np.testing.assert_allclose(slopes, differences, rtol=1e-6)


SCHEDULE = optax.warmup_cosine_decay_schedule(0.01, 0.1, 2, 10)
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": adam(0.05),
    "adamw with a schedule": adamw(SCHEDULE, weight_decay=0.1),
    "rmsprop": optax.rmsprop(0.05, eps=1e-8, initial_scale=0.1),
    "lion": optax.lion(0.01, weight_decay=0.1),
    "clip by global norm": optax.chain(optax.clip_by_global_norm(0.1), adamw(0.05)),
    "clip by value": optax.chain(optax.clip(0.05), optax.sgd(0.1)),
    "mask of the weight decay": adamw(
        0.05, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p)
    ),
    "frozen leaves": optax.partition(
        {"train": adam(0.05), "freeze": optax.set_to_zero()},
        lambda p: jax.tree.map(lambda x: "train" if x.ndim > 1 else "freeze", p),
    ),
    "multi steps": optax.MultiSteps(adamw(0.05), every_k_schedule=2),
    "injected hyperparameters": optax.inject_hyperparams(adamw)(learning_rate=SCHEDULE),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    check_exact(loss, weights(), batch(0, 3), batch(1), Mixup(init=uniform), OPTIMIZERS[name])


@pytest.mark.parametrize("unroll", [1, 4, 8])
@pytest.mark.parametrize("name", ["momentum", "adamw with a schedule"])
def test_every_length_of_unroll(unroll, name):
    inner = OPTIMIZERS[name]
    check_exact(loss, weights(), batch(0, unroll), batch(1), Mixup(init=uniform), inner)


@pytest.mark.parametrize("constraint", ["clip", "sigmoid"])
@pytest.mark.parametrize("formula", ["convex", "released"])
@pytest.mark.parametrize("granularity", ["full", "rank1", "row", "column", "matrix", "layer"])
def test_every_mixup(granularity, formula, constraint):
    mixup = Mixup(granularity, formula, init=uniform, constraint=constraint)
    check_exact(loss, weights(), batch(0, 2), batch(1), mixup, adamw(0.05))


def test_rank_two():
    mixup = Mixup("rank1", "released", init=uniform, rank=2)
    check_exact(loss, weights(), batch(0, 2), batch(1), mixup, adamw(0.05))


def test_against_a_loop_written_out():
    """The whole map by hand, sharing no code with the library but optax."""
    pretrained, task = weights(), task_near(weights())
    mixed = ("embedding", "stack")
    pattern = "embedding|stack"
    inner = adamw(0.05)
    problem = BilevelProblem(loss, Mixup("full", where=pattern, init=0.7), inner, unroll=2)
    state = problem.init(KEY, pretrained, task=task)
    keys = jax.random.split(jax.random.fold_in(state.key, 0), 3)
    inner_batches, outer_batch = batch(0, 2), batch(1)

    def mix(alpha, w):
        shares = {n: alpha[n] * w[n] + (1 - alpha[n]) * pretrained[n] for n in mixed}
        return {**w, **shares, "version": pretrained["version"]}

    def outer(alpha):
        w = {name: x for name, x in task.items() if name != "version"}
        opt_state = inner.init(w)
        for k in range(2):
            data = jax.tree.map(lambda x, k=k: x[k], inner_batches)
            g = jax.grad(lambda w, k=k, data=data: loss(mix(alpha, w), data, keys[k]))(w)
            updates, opt_state = inner.update(g, opt_state, w)
            w = optax.apply_updates(w, updates)
        return loss(mix(alpha, w), outer_batch, keys[2])

    expected = jit(jax.grad(outer))({name: state.alpha[name] for name in mixed})
    found = jit(problem.hypergradient)(state, pretrained, inner_batches, outer_batch)
    assert relative_error({name: found[name] for name in mixed}, expected) < 1e-9


def linen_model():
    from flax import linen as nn

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            x = nn.Embed(6, 3)(x)
            x = nn.LayerNorm()(nn.gelu(nn.Dense(4)(x)))
            return nn.Dense(3)(nn.Dropout(0.2, deterministic=deterministic)(x))

    module = Model()
    params = module.init(KEY, np.zeros(4, int), True)

    def loss(params, batch, key):
        logits = module.apply(params, batch["x"], False, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    return params, loss


def nnx_model():
    try:
        from flax import nnx
    except (ImportError, AttributeError) as error:
        pytest.skip(f"flax.nnx does not import beside this jax: {error}")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(6, 3, param_dtype=jnp.float64, rngs=rngs)
            self.hidden = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)
            self.out = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, x, key):
            x = self.norm(nnx.gelu(self.hidden(self.embed(x))))
            return self.out(x * jax.random.bernoulli(key, 0.8, x.shape))

    graph, params = nnx.split(Model(nnx.Rngs(0)))

    def loss(params, batch, key):
        logits = nnx.merge(graph, params)(batch["x"], key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    return params, loss


@pytest.mark.parametrize("make", [linen_model, nnx_model])
def test_models_of_flax(make):
    params, loss = make()
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    check_exact(loss, params, batch(0, 2), batch(1), Mixup(init=uniform), adamw(0.05))


SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
TREES = st.recursive(
    SHAPES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(["a", "b", "layer_1"]), inner, min_size=1, max_size=2),
    ),
    max_leaves=4,
)


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    shapes=TREES,
    granularity=st.sampled_from(["full", "rank1", "row", "column", "matrix", "layer"]),
    formula=st.sampled_from(["convex", "released"]),
    constraint=st.sampled_from(["clip", "sigmoid"]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    unroll=st.integers(1, 8),
    residuals=st.sampled_from(["recompute", "keep"]),
    segment=st.sampled_from([None, 1, 2, 3]),
)
def test_any_pytree(
    shapes, granularity, formula, constraint, optimizer, unroll, residuals, segment
):
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    pretrained = treedef.unflatten([draw(i, *shape) for i, shape in enumerate(leaves)])

    def loss(params, batch, key):
        terms = [jnp.sin(w * batch).sum() + (w**3).mean() for w in jax.tree.leaves(params)]
        # Couples the leaves, so that the Hessian has blocks off its diagonal.
        return jnp.log1p(jnp.square(sum(terms))) + jax.random.normal(key) * terms[0]

    # One stack shape a layer, which random trees seldom have: each leaf is its own.
    mixup = Mixup(granularity, formula, lambda path, x: True, uniform, constraint, layer="^.*$")
    make = partial(BilevelProblem, loss, mixup, OPTIMIZERS[optimizer], unroll=unroll)
    state = make().init(KEY, pretrained, task=task_near(pretrained))
    inner_batches = draw(50, unroll)

    @jit
    def both(state):
        return tuple(
            make(hypergradient=way).hypergradient(state, pretrained, inner_batches, draw(51))
            for way in (Exact(residuals, segment=segment), "reverse")
        )

    assert relative_error(*both(state)) < 1e-9


def test_all_axes_of_vmap():
    pretrained = weights()
    problem = BilevelProblem(loss, Mixup(init=uniform), adamw(0.05), unroll=2)
    keys = jax.random.split(KEY, 2)
    states = jax.vmap(problem.init, in_axes=(0, None))(keys, pretrained)
    arguments = (pretrained, batch(0, 2), batch(1))
    lanes = jit(jax.vmap(problem.hypergradient, in_axes=(0, None, None, None)))
    alone = jit(problem.hypergradient)(jax.tree.map(lambda x: x[1], states), *arguments)
    found = jax.tree.map(lambda x: x[1], lanes(states, *arguments))
    assert relative_error(found, alone) < 1e-12
