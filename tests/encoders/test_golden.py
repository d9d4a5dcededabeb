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


@pytest.fixture(scope="module")
def compute(encoder, expected, batch):
    """Everything there is to compare, as one compiled function of the weights."""
    labels = jnp.asarray(expected["labels"])

    def loss(params):
        logits = encoder.apply(params, batch)
        if encoder.num_labels == 1:
            return jnp.mean((logits[:, 0] - labels) ** 2), logits
        scores = jax.nn.log_softmax(logits)
        return -jnp.mean(scores[jnp.arange(len(labels)), labels]), logits

    @jax.jit
    def everything(params):
        (value, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        states = encoder.hidden_states(params, batch)
        pooled = encoder.pooled(params, batch)
        return {
            "loss": value,
            "logits": logits,
            "gradient": gradient,
            "pooled": pooled,
            "states": states,
        }

    return everything


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_every_family_has_a_fixture():
    kinds = {read_json(GOLDEN / name / "config.json")["model_type"] for name in NAMES}
    assert kinds == set(FAMILIES)


def test_numbers_equal_torch(encoder, compute, expected):
    found = compute(encoder.params)
    close(found["logits"], expected["logits"])
    close(found["pooled"], expected["pooled"])
    assert len(found["states"]) == sum(key.startswith("hidden_") for key in expected)
    for i, state in enumerate(found["states"]):
        close(state, expected[f"hidden_{i}"])


def test_numbers_do_not_depend_on_how_they_are_computed(name, expected, batch):
    other = Encoder.from_pretrained(GOLDEN / name, scan_layers=True, remat=True, attention="fused")
    close(jax.jit(other.apply)(other.params, batch), expected["logits"])


def test_gradient_equals_torch(encoder, compute, expected):
    found = compute(encoder.params)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    gradient = {}
    for entry in entries(found["gradient"], encoder.family.keys):
        leaf = found["gradient"]
        for step in entry.path:
            leaf = leaf[step]
        gradient |= entry.to_torch(leaf)
    wanted = {
        key.removeprefix("gradient "): leaf
        for key, leaf in expected.items()
        if key.startswith("gradient ")
    }
    assert wanted.keys() <= gradient.keys()
    for key, leaf in wanted.items():
        error = np.linalg.norm(gradient[key] - leaf)
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
def test_export_loads_in_torch(encoder, compute, batch, tmp_path):
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
    ours = compute(params)["logits"]
    close(ours, logits.numpy())
    again = Encoder.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(compute(again.params)["logits"], ours)
