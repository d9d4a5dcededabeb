"""Every family's numbers equal torch's, on the fixtures of `tests/golden/encoders/make.py`."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from blomix.encoders import FAMILIES, Encoder, layers, model
from blomix.encoders.configuration import read_json
from blomix.encoders.families import bart, deberta, modernbert
from blomix.encoders.functions import dropout
from blomix.encoders.keys import tensors
from tests.golden.encoders import compare


@pytest.fixture(scope="module", params=compare.NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(name):
    return compare.load(name)


@pytest.fixture(scope="module")
def compute(loaded):
    return compare.compiled(*loaded)


@pytest.fixture(scope="module")
def deviations(loaded, compute):
    encoder, expected, _ = loaded
    found, gradient = compute(encoder.params)
    return compare.deviations(found, tensors(gradient, encoder.family.keys), expected)


def test_every_family_has_a_fixture():
    configs = (read_json(compare.HERE / name / "config.json") for name in compare.NAMES)
    assert {config["model_type"] for config in configs} == set(FAMILIES)


def test_numbers_equal_torch(loaded, deviations):
    numbers, _ = deviations
    assert max(numbers.values()) < 1e-5, numbers
    states = [key for key in loaded[1] if key.startswith("hidden_")]
    assert {"loss", "logits", "pooled", *states} == set(numbers)


def test_gradients_equal_torch(deviations):
    _, gradients = deviations
    assert len(gradients) > 10
    assert max(gradients.values()) < 1e-4, gradients


def test_numbers_do_not_depend_on_how_they_are_computed(name, loaded):
    encoder, expected, batch = loaded
    scan = encoder.family.uniform_layers
    options = {"scan_layers": scan, "remat": True, "attention": "fused"}
    other = Encoder.from_pretrained(compare.HERE / name, **options)
    logits = jax.jit(other.apply)(other.params, batch)
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5)


def test_dropout_is_where_torch_has_it(name, loaded, monkeypatch):
    """One training pass draws as many masks as torch's, of the same sizes and rates."""
    torch = json.loads((compare.HERE / "dropout.json").read_text())[name]
    config = read_json(compare.HERE / name / "config.json") | torch["rates"]
    drawn = []

    def spy(x, rate, key):
        if key is not None and rate > 0:
            drawn.append([x.size, rate])
        return dropout(x, rate, key)

    for module in (layers, model, bart, deberta, modernbert):
        monkeypatch.setattr(module, "dropout", spy)
    encoder = Encoder.abstract(config)
    jax.eval_shape(encoder.apply, encoder.params, loaded[2], jax.random.key(0))
    assert sorted(drawn) == torch["drawn"]


def test_round_trip_keeps_every_byte(name, loaded, tmp_path):
    loaded[0].save_pretrained(tmp_path / "model")
    before = load_file(compare.HERE / name / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.tobytes() == after[key].tobytes(), key
        assert tensor.dtype == after[key].dtype


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_export_loads_in_torch(loaded, compute, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    encoder, _, batch = loaded
    params = jax.tree.map(lambda leaf: leaf * 1.1, encoder.params)
    encoder.save_pretrained(tmp_path / "model", params)
    model, notes = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(notes.values()), notes
    with torch.no_grad():
        logits = model(**{k: torch.tensor(v).long() for k, v in batch.items()}).logits
    ours = compute(params)[0]["logits"]
    np.testing.assert_allclose(ours, logits.numpy(), rtol=0, atol=1e-5)
    again = Encoder.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(compute(again.params)[0]["logits"], ours)
