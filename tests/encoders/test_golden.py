"""Every family's numbers equal torch's, on the fixtures of `tests/golden/encoders/make.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from blomix.encoders import FAMILIES, Encoder
from blomix.encoders.configuration import read_json
from blomix.encoders.keys import entries

GOLDEN = Path(__file__).parents[1] / "golden" / "encoders"
NAMES = sorted(path.parent.name for path in GOLDEN.glob("*/expected.npz"))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def expected(name):
    return dict(np.load(GOLDEN / name / "expected.npz"))


@pytest.fixture(scope="module")
def encoder(name):
    return Encoder.from_pretrained(GOLDEN / name)


@pytest.fixture(scope="module")
def batch(expected):
    return {
        k: expected[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in expected
    }


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_every_family_has_a_fixture():
    kinds = {read_json(GOLDEN / name / "config.json")["model_type"] for name in NAMES}
    assert kinds == set(FAMILIES)


def test_numbers_equal_torch(encoder, expected, batch):
    close(encoder.apply(encoder.params, batch), expected["logits"])
    close(encoder.pooled(encoder.params, batch), expected["pooled"])
    states = encoder.hidden_states(encoder.params, batch)
    assert len(states) == sum(key.startswith("hidden_") for key in expected)
    for i, state in enumerate(states):
        close(state, expected[f"hidden_{i}"])


def test_numbers_do_not_depend_on_how_they_are_computed(name, expected, batch):
    other = Encoder.from_pretrained(GOLDEN / name, scan_layers=True, remat=True, attention="fused")
    close(jax.jit(other.apply)(other.params, batch), expected["logits"])


def test_gradient_equals_torch(encoder, expected, batch):
    labels = jnp.asarray(expected["labels"])

    def loss(params):
        logits = encoder.apply(params, batch)
        if encoder.num_labels == 1:
            return jnp.mean((logits[:, 0] - labels) ** 2)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])

    value, gradient = jax.jit(jax.value_and_grad(loss))(encoder.params)
    np.testing.assert_allclose(value, expected["loss"], rtol=1e-5)
    found = {}
    for entry in entries(gradient, encoder.family.keys):
        leaf = gradient
        for step in entry.path:
            leaf = leaf[step]
        found |= entry.to_torch(leaf)
    wanted = {
        key.removeprefix("gradient "): leaf
        for key, leaf in expected.items()
        if key.startswith("gradient ")
    }
    assert wanted.keys() <= found.keys()
    for key, leaf in wanted.items():
        error = np.linalg.norm(found[key] - leaf)
        # A gradient that is 0 in exact arithmetic (a key's bias) is rounding noise in both.
        assert error <= 1e-4 * np.linalg.norm(leaf) + 1e-7, key


def test_round_trip_keeps_every_byte(name, encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "model")
    before = load_file(GOLDEN / name / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.tobytes() == after[key].tobytes(), key
        assert tensor.dtype == after[key].dtype


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_export_loads_in_torch(encoder, expected, batch, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    params = jax.tree.map(lambda leaf: leaf * 1.1, encoder.params)
    encoder.save_pretrained(tmp_path / "model", params)
    model, notes = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(notes.values()), notes
    with torch.no_grad():
        logits = model(**{k: torch.tensor(v).long() for k, v in batch.items()}).logits
    np.testing.assert_allclose(encoder.apply(params, batch), logits.numpy(), atol=2e-5)
    again = Encoder.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.apply(again.params, batch), encoder.apply(params, batch))
