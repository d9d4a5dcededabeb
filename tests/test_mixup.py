import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blomix import InputError, Mixup

GRANULARITIES = ["full", "rank1", "row", "column", "matrix", "layer"]
KEY = jax.random.key(0)


@pytest.fixture
def weights():
    def leaf(i, *shape):
        return np.random.default_rng(i).normal(size=shape).astype(np.float32)

    return {
        "embedding": leaf(0, 7, 4),
        "layer_0": {"query": leaf(1, 4, 5), "key": leaf(2, 4, 5), "bias": leaf(3, 5)},
        "stack": {"kernel": leaf(4, 3, 4, 5)},
        "positions": np.arange(6).reshape(2, 3),
    }


def moved(weights):
    return jax.tree.map(lambda w: w + 1 if w.dtype == np.float32 else w, weights)


def shapes(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_shapes_of_alpha(weights):
    def alpha_shapes(*args, **kwargs):
        return shapes(Mixup(*args, **kwargs).init(KEY, weights))

    assert alpha_shapes("full") == {
        "embedding": (7, 4),
        "layer_0/query": (4, 5),
        "layer_0/key": (4, 5),
        "stack/kernel": (3, 4, 5),
    }
    rank1 = alpha_shapes("rank1")
    assert rank1["layer_0/query/row"] == (4,)
    assert rank1["layer_0/query/column"] == (5,)
    assert rank1["stack/kernel/row"] == (3, 4)
    assert rank1["stack/kernel/column"] == (3, 5)
    assert alpha_shapes("rank1", rank=2)["stack/kernel/row"] == (3, 4, 2)
    assert alpha_shapes("row")["stack/kernel"] == (3, 4)
    assert alpha_shapes("column")["stack/kernel"] == (3, 5)
    assert alpha_shapes("matrix") == {
        "embedding": (),
        "layer_0/query": (),
        "layer_0/key": (),
        "stack/kernel": (3,),
    }
    assert alpha_shapes("layer") == {"embedding": (), "layer_0": (), "stack/kernel": (3,)}


@pytest.mark.parametrize("constraint", ["clip", "sigmoid"])
@pytest.mark.parametrize("formula", ["convex", "released"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_mix_is_the_formula(weights, granularity, formula, constraint):
    def uniform(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, 0.1, 0.9)

    mixup = Mixup(granularity, formula, init=uniform, constraint=constraint)
    alpha = mixup.init(KEY, weights)
    task = moved(weights)
    mixed = mixup.mix(alpha, task, weights)
    shares = mixup.alpha_of(alpha, weights)
    assert shares["positions"] is None
    assert shares["layer_0"]["bias"] is None
    for path, share in jax.tree_util.tree_leaves_with_path(shares):
        w, w0, found = (
            dict(jax.tree_util.tree_leaves_with_path(tree))[path] for tree in (task, weights, mixed)
        )
        assert share.shape == w.shape
        rest = 1 - share
        if formula == "released" and granularity == "rank1":
            factors = alpha
            for entry in path:
                factors = factors[entry.key]
            row, column = factors["row"], factors["column"]
            if constraint == "sigmoid":
                row, column = jax.nn.sigmoid(row), jax.nn.sigmoid(column)
            rest = (1 - row)[..., :, None] * (1 - column)[..., None, :]
            np.testing.assert_allclose(share, row[..., :, None] * column[..., None, :], rtol=1e-6)
        np.testing.assert_allclose(found, share * w + rest * w0, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mixed["positions"], weights["positions"])
    np.testing.assert_array_equal(mixed["layer_0"]["bias"], task["layer_0"]["bias"])


def test_the_mix_of_equal_weights_is_exactly_they(weights):
    mixup = Mixup()
    mixed = mixup.mix(mixup.init(KEY, weights), weights, weights)
    jax.tree.map(np.testing.assert_array_equal, mixed, weights)


def test_rank_r_stays_in_the_unit_interval(weights):
    mixup = Mixup("rank1", rank=3, init=1.0)
    alpha = mixup.init(KEY, weights)
    np.testing.assert_allclose(mixup.alpha_of(alpha)["stack"]["kernel"], 1.0, rtol=1e-6)


def test_init_scalar_normal_and_callable(weights):
    alpha = Mixup("full", init=0.25).init(KEY, weights)
    np.testing.assert_array_equal(alpha["embedding"], np.full((7, 4), 0.25))
    first, second = (
        Mixup("full", init=(0.5, 0.1)).init(jax.random.key(i), weights) for i in (0, 1)
    )
    assert np.std(first["stack"]["kernel"]) == pytest.approx(0.1, rel=0.3)
    assert np.any(first["embedding"] != second["embedding"])
    start = Mixup("full").init(KEY, weights)
    assert max(np.max(x) for x in jax.tree.leaves(start)) == 1.0
    alpha = Mixup("row", init=lambda key, shape, dtype: jnp.full(shape, 2.0)).init(KEY, weights)
    np.testing.assert_array_equal(alpha["embedding"], np.ones(7))


def test_sigmoid_starts_at_init_and_is_not_projected(weights):
    mixup = Mixup("matrix", init=0.75, constraint="sigmoid")
    alpha = mixup.init(KEY, weights)
    np.testing.assert_allclose(jax.nn.sigmoid(alpha["embedding"]), 0.75, rtol=1e-6)
    far = jax.tree.map(lambda a: a + 9, alpha)
    jax.tree.map(np.testing.assert_array_equal, mixup.project(far), far)
    assert np.isfinite(
        Mixup("matrix", init=1.0, constraint="sigmoid").init(KEY, weights)["embedding"]
    )


def test_project_clips(weights):
    mixup = Mixup("matrix", init=0.5)
    alpha = jax.tree.map(lambda a: a + 9, mixup.init(KEY, weights))
    assert set(map(float, mixup.project(alpha)["stack"]["kernel"])) == {1.0}


def test_dtype_is_that_of_the_leaf(weights):
    weights["layer_0"]["key"] = jnp.asarray(weights["layer_0"]["key"], jnp.bfloat16)
    alpha = Mixup().init(KEY, weights)
    assert alpha["layer_0"]["key"]["row"].dtype == jnp.bfloat16
    assert alpha["layer_0"]["query"]["row"].dtype == jnp.float32


def test_a_layer_of_two_dtypes_has_an_alpha_of_the_wider_and_keeps_both(weights):
    weights["layer_0"]["key"] = jnp.asarray(weights["layer_0"]["key"], jnp.bfloat16)
    mixup = Mixup("layer", init=0.5)
    alpha = mixup.init(KEY, weights)
    assert alpha["layer_0"].dtype == jnp.float32
    mixed = mixup.mix(alpha, weights, weights)["layer_0"]
    assert (mixed["key"].dtype, mixed["query"].dtype) == (jnp.bfloat16, jnp.float32)


def test_stacks_of_layers_are_found_by_their_name(weights):
    kernels = {"query": weights["stack"]["kernel"], "key": weights["stack"]["kernel"]}
    trees = {"layers": kernels, "decoder_layers": kernels, "players": {"kernel": np.ones((2, 2))}}
    alpha = Mixup("layer").init(KEY, trees)
    assert set(alpha) == {"layers", "decoder_layers", "players/kernel"}


def test_where_by_expression_and_by_predicate(weights):
    by_name = Mixup(where="query|key").init(KEY, weights)
    by_call = Mixup(where=lambda path, x: path[-1].key in ("query", "key")).init(KEY, weights)
    assert shapes(by_name).keys() == shapes(by_call).keys()
    assert set(shapes(by_name)) == {
        f"layer_0/{m}/{f}" for m in ("query", "key") for f in ("row", "column")
    }
    assert by_name["embedding"] is None


def test_a_leaf_of_one_axis_is_a_matrix_of_one_row(weights):
    mixup = Mixup(where="bias", init=0.5)
    alpha = mixup.init(KEY, weights)
    assert shapes(alpha) == {"layer_0/bias/row": (1,), "layer_0/bias/column": (5,)}
    mixed = mixup.mix(alpha, moved(weights), weights)
    np.testing.assert_allclose(
        mixed["layer_0"]["bias"], weights["layer_0"]["bias"] + 0.25, rtol=1e-5
    )


def test_retention_is_the_mean_share(weights):
    mixup = Mixup(init=0.5)
    retention = mixup.retention(mixup.init(KEY, weights))
    assert retention.keys() == {"embedding", "layer_0/query", "layer_0/key", "stack/kernel"}
    np.testing.assert_allclose(retention["stack/kernel"], [0.25] * 3)


def test_layer_names(weights):
    tree = {
        "encoder": {
            "layer": [{"a": {"kernel": np.ones((2, 2))}, "b": {"kernel": np.ones((2, 2))}}] * 2
        },
        "layers": {"c": {"kernel": np.ones((3, 2, 2))}, "d": {"kernel": np.ones((3, 2, 2))}},
        "pooler": {"kernel": np.ones((2, 2))},
        "Block_0": {"Dense_0": {"kernel": np.ones((2, 2))}, "Dense_1": {"kernel": np.ones((2, 2))}},
    }
    alpha = Mixup("layer").init(KEY, tree)
    assert shapes(alpha) == {
        "encoder/layer/0": (),
        "encoder/layer/1": (),
        "layers": (3,),
        "pooler/kernel": (),
        "Block_0": (),
    }
    with pytest.raises(InputError, match=r"stack of shape.*`layer` expression"):
        Mixup("layer", layer="^").init(KEY, tree)


def test_works_in_transformations(weights):
    mixup = Mixup()
    alpha = jax.eval_shape(mixup.init, KEY, weights)
    jax.eval_shape(mixup.mix, alpha, weights, weights)
    keys = jax.random.split(KEY, 3)
    alphas = jax.jit(jax.vmap(mixup.init, in_axes=(0, None)))(keys, weights)
    mixed = jax.vmap(mixup.mix, in_axes=(0, None, None))(alphas, moved(weights), weights)
    assert mixed["stack"]["kernel"].shape == (3, 3, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda alpha: alpha["layer_0"].update(query=None),
            "alpha lacks the leaf 'layer_0/query/column'",
        ),
        (lambda alpha: alpha.update(more=np.ones(2)), "alpha has the extra leaf 'more'"),
        (
            lambda alpha: alpha["embedding"].update(row=np.ones(3)),
            r"alpha: the leaf 'embedding/row' should have shape \(7,\), found \(3,\)",
        ),
    ],
)
def test_errors_name_the_leaf_of_alpha(weights, change, message):
    mixup = Mixup()
    alpha = mixup.init(KEY, weights)
    change(alpha)
    with pytest.raises(InputError, match=message):
        mixup.mix(alpha, weights, weights)


def test_errors_name_the_leaf_of_the_task(weights):
    mixup = Mixup()
    alpha = mixup.init(KEY, weights)
    task = {**weights, "embedding": np.ones((7, 3), np.float32)}
    with pytest.raises(InputError, match="task: the leaf 'embedding' should have shape"):
        mixup.mix(alpha, task, weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "rank2"}, "granularity should be one of"),
        ({"formula": "concave"}, "formula should be one of"),
        ({"constraint": "none"}, "constraint should be one of"),
        ({"rank": 0}, "rank should be 1"),
        ({"rank": 2, "granularity": "full"}, "rank should be 1"),
        ({"init": 1.5}, "init should start"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        Mixup(**options)


def test_nothing_mixed_is_an_error(weights):
    with pytest.raises(InputError, match="no leaf is mixed"):
        Mixup(where="no such leaf").init(KEY, weights)


def test_is_hashable_and_compares_by_value():
    assert hash(Mixup(init=[1.0, 0.1])) == hash(Mixup(init=(1.0, 0.1)))
    assert Mixup("row") == Mixup("row") != Mixup("column")
