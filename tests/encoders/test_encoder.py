"""What an encoder promises whatever its family, without torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from blomix.encoders import Encoder

CONFIG = {
    "model_type": "bert",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
BART = {
    "model_type": "bart",
    "vocab_size": 11,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
}
MODERNBERT = {
    "model_type": "modernbert",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}
BATCH = {
    "input_ids": np.array([[1, 2, 3, 4], [5, 6, 0, 0]], np.int32),
    "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32),
    "labels": np.array([0, 1]),
}


def leaves(params):
    return {
        "/".join(step.key for step in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }


def assert_same(one, other):
    one, other = leaves(one), leaves(other)
    assert one.keys() == other.keys()
    for name, leaf in one.items():
        np.testing.assert_array_equal(leaf, other[name], err_msg=name)


def close(one, other, tolerance=1e-5):
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_own_export_comes_back_with_its_head(tmp_path, pooling):
    encoder = Encoder.from_config(CONFIG, label_names=["no", "perhaps", "yes"], pooling=pooling)
    encoder.save_pretrained(tmp_path / "model")
    again = Encoder.from_pretrained(tmp_path / "model")
    assert_same(encoder.params, again.params)
    assert (again.pooling, again.label_names) == (pooling, ("no", "perhaps", "yes"))
    again.save_pretrained(tmp_path / "again")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_regression_comes_back(tmp_path):
    Encoder.from_config(CONFIG, regression=True).save_pretrained(tmp_path / "model")
    again = Encoder.from_pretrained(tmp_path / "model")
    assert again.regression
    assert again.num_labels == 1


def test_head_that_does_not_fit_is_new_and_said(tmp_path, caplog):
    encoder = Encoder.from_config(CONFIG, num_labels=3)
    encoder.save_pretrained(tmp_path / "model")
    again = Encoder.from_pretrained(tmp_path / "model", num_labels=5, seed=7)
    assert "head: new weights, drawn from seed 7" in caplog.text
    assert again.params["head"]["kernel"].shape == (8, 5)
    assert_same(encoder.params["layers"], again.params["layers"])
    same = Encoder.from_pretrained(tmp_path / "model", num_labels=5, seed=7)
    assert_same(again.params, same.params)


def test_a_head_for_other_classes_is_kept_and_said(tmp_path, caplog):
    encoder = Encoder.from_config(CONFIG, label_names=("dull", "fine"))
    encoder.save_pretrained(tmp_path)
    again = Encoder.from_pretrained(tmp_path, label_names=("good", "poor"))
    np.testing.assert_array_equal(again.params["head"]["kernel"], encoder.params["head"]["kernel"])
    assert "own, for 'dull', 'fine': its outputs are taken for 'good', 'poor'" in caplog.text


def test_new_head_is_drawn_as_torch_scales_it():
    config = {**CONFIG, "hidden_size": 64, "initializer_range": 0.1}
    head = Encoder.from_config(config, num_labels=500).params["head"]
    assert abs(float(head["kernel"].std()) - 0.1) < 0.002
    assert not head["bias"].any()


def test_new_pooler_of_modernbert_is_scaled_by_its_depth():
    config = {**MODERNBERT, "hidden_size": 64, "initializer_range": 0.2, "num_hidden_layers": 8}
    params = Encoder.from_config(config, num_labels=500).params
    assert abs(float(params["pooler"]["kernel"].std()) - 0.2 / 4) < 0.002
    assert abs(float(params["head"]["kernel"].std()) - 64**-0.5) < 0.002


def test_unused_pooler_goes_through(tmp_path):
    Encoder.from_config(CONFIG).save_pretrained(tmp_path / "model")
    mean = Encoder.from_pretrained(tmp_path / "model", pooling="mean")
    assert "pooler" not in mean.params
    mean.save_pretrained(tmp_path / "mean")
    before, after = (load_file(tmp_path / d / "model.safetensors") for d in ("model", "mean"))
    after = {f"bert.{name}": tensor for name, tensor in after.items()}
    assert set(before) - set(after) == {"classifier.weight", "classifier.bias"}
    for name, tensor in after.items():
        np.testing.assert_array_equal(tensor, before[name], err_msg=name)


@pytest.mark.parametrize("family", ["modernbert", "albert"])
def test_one_rate_is_for_every_place_of_the_family_whatever_its_own_rates(family):
    """ModernBERT's are 0, and so are most of ALBERT's."""
    config = CONFIG | {"model_type": family, "embedding_size": 8, "pad_token_id": 0}
    own = Encoder.from_config(config)
    assert sum(rate > 0 for rate in own.architecture.dropout.rates().values()) < 2
    encoder = Encoder.from_config(config, dropout=0.3)
    assert set(encoder.architecture.dropout.rates().values()) == {0.3}
    batch = {"input_ids": np.arange(10).reshape(2, 5)}
    one, other = (encoder.apply(encoder.params, batch, jax.random.key(k)) for k in (0, 1))
    assert not np.allclose(one, other)


def test_frozen_tables_are_not_decayed():
    paths = [("embeddings", "token", "embedding"), ("layers", "0", "query", "kernel")]
    for trained in (True, False):
        encoder = Encoder.abstract(CONFIG, train_embeddings=trained)
        assert [encoder.is_decayed(path) for path in paths] == [trained, True]


def test_dropout_needs_a_key_and_follows_it():
    encoder = Encoder.from_config(CONFIG, dropout=0.5)
    apply = jax.jit(encoder.apply)
    plain = apply(encoder.params, BATCH)
    close(plain, apply(encoder.params, BATCH), 0)
    first, second = (apply(encoder.params, BATCH, jax.random.key(i)) for i in (1, 2))
    close(first, apply(encoder.params, BATCH, jax.random.key(1)), 0)
    assert not np.allclose(first, plain)
    assert not np.allclose(first, second)
    off = Encoder.from_config(CONFIG, dropout=0.0)
    close(off.apply(off.params, BATCH, jax.random.key(1)), plain)


def test_padding_changes_nothing():
    encoder = Encoder.from_config(CONFIG, pooling="mean")
    whole = encoder.apply(encoder.params, BATCH)
    short = {name: value[1:, :2] for name, value in BATCH.items() if name != "labels"}
    close(whole[1:], encoder.apply(encoder.params, short))
    nothing = {**BATCH, "attention_mask": np.zeros((2, 4), np.int32)}
    assert np.isfinite(encoder.apply(encoder.params, nothing)).all()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "model"
    Encoder.from_config(CONFIG).save_pretrained(directory)
    return directory


def value_and_gradient(encoder, key):
    def loss(params):
        logits = encoder.apply(params, BATCH, key)
        return jnp.sum(logits**2), logits

    (_, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(encoder.params)
    return logits, gradient["head"]["kernel"], gradient["embeddings"]["token"]["embedding"]


@pytest.fixture(scope="module")
def plain_numbers(saved):
    return value_and_gradient(Encoder.from_pretrained(saved), jax.random.key(3))


@pytest.mark.parametrize(
    "options",
    [{"scan_layers": True}, {"remat": True}, {"attention": "fused"}, {"dtype": "bfloat16"}],
    ids=str,
)
def test_options_keep_the_numbers_under_dropout(saved, tmp_path, plain_numbers, options):
    other = Encoder.from_pretrained(saved, **options)
    tolerance = 2e-2 if "dtype" in options else 1e-6
    found = value_and_gradient(other, jax.random.key(3))
    assert found[0].dtype == jnp.float32
    for one, same in zip(found, plain_numbers, strict=True):
        close(one, same, tolerance)
    other.save_pretrained(tmp_path / "other")
    before, after = ((d / "model.safetensors").read_bytes() for d in (saved, tmp_path / "other"))
    assert before == after


def test_plain_attention_is_twice_differentiable():
    encoder = Encoder.from_config(CONFIG, scan_layers=True, remat=True)

    def loss(params):
        return jnp.sum(encoder.apply(params, BATCH, jax.random.key(0)) ** 2)

    @jax.jit
    def product(params):
        return jax.jvp(jax.grad(loss), (params,), (params,))

    gradient, change = product(encoder.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, change)))
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(change))


@pytest.mark.parametrize("config", [CONFIG, BART], ids=["bert", "bart"])
def test_embeddings_without_gradient(config):
    encoder = Encoder.from_config(config, train_embeddings=False)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(encoder.apply(p, BATCH) ** 2)))(encoder.params)
    tables = [part for part in gradient if part.endswith("embeddings")]
    assert not any(np.any(leaf) for part in tables for leaf in jax.tree.leaves(gradient[part]))
    assert np.any(gradient["layers"]["0"]["query"]["kernel"])


def test_abstract_allocates_nothing():
    huge = {**CONFIG, "hidden_size": 2**20, "vocab_size": 2**30}
    encoder = Encoder.abstract(huge, num_labels=3)
    logits = jax.eval_shape(encoder.apply, encoder.params, BATCH)
    assert logits.shape == (2, 3)
    concrete, abstract = Encoder.from_config(CONFIG), Encoder.abstract(CONFIG)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), concrete.params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract.params
    )


def test_logits_are_the_head_of_the_pooled_output():
    encoder = Encoder.from_config(CONFIG, num_labels=3)
    weights, bias = np.ones((8, 3), np.float32), np.arange(3.0, dtype=np.float32)
    params = encoder.with_head(encoder.params, weights, bias)
    pooled = encoder.pooled(params, BATCH)
    close(encoder.apply(params, BATCH), pooled @ weights + bias)


def test_names_of_leaves():
    encoder = Encoder.from_config(CONFIG)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(encoder.params)[0]]
    mixed = [path for path in paths if encoder.is_mixed(path)]
    assert len(mixed) == 6 * 2 + 1
    assert {encoder.matrix_of(path) for path in mixed} == {
        "query",
        "key",
        "value",
        "attention output",
        "feed-forward in",
        "feed-forward out",
        "pooler",
    }
    assert {encoder.layer_of(path) for path in mixed} == {0, 1, None}
    assert sum(encoder.is_head(path) for path in paths) == 2
    undecayed = {path[-2].key.split("_")[-1] for path in paths if not encoder.is_decayed(path)}
    assert undecayed >= {"norm", "query", "head"}
    assert all(encoder.is_decayed(path) for path in mixed)


def test_names_of_a_decoder():
    encoder = Encoder.abstract(BART)
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(encoder.params)[0]]
    mixed = [path for path in paths if encoder.is_mixed(path)]
    assert len(mixed) == 6 * 2 + 10
    assert "decoder cross query" in {encoder.matrix_of(path) for path in mixed}
    assert {encoder.layer_of(path) for path in mixed} == {0, 1, 2}
    assert sum(encoder.is_head(path) for path in paths) == 4
