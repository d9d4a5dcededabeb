"""Real weights: all-MiniLM-L6-v2 and all-mpnet-base-v2, where their directories are given."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from blomix.encoders import Encoder

GOLDEN = Path(__file__).parents[1] / "golden" / "encoders"
NAMES = {"minilm": "BLOMIX_MINILM", "mpnet": "BLOMIX_MPNET"}
TEXTS = [
    "The film never quite recovers from its opening.",
    "Rates rose.",
    "A striker, two midfielders and the goalkeeper were booked before half-time.",
]


@pytest.fixture(scope="module", params=sorted(NAMES))
def name(request):
    variable = NAMES[request.param]
    if not os.environ.get(variable):
        pytest.skip(f"{variable} does not name the model's directory")
    return request.param


@pytest.fixture(scope="module")
def directory(name):
    return Path(os.environ[NAMES[name]])


@pytest.fixture(scope="module")
def encoder(directory):
    return Encoder.from_pretrained(directory, num_labels=3)


@pytest.fixture(scope="module")
def expected(name):
    return dict(np.load(GOLDEN / f"real-{name}.npz"))


@pytest.fixture(scope="module")
def batch(expected):
    return {
        k: expected[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in expected
    }


def test_tokenizer_gives_the_same_ids(encoder, expected):
    ids = encoder.tokenizer(TEXTS, padding=True, return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(ids, expected["input_ids"])


def test_numbers_equal_torch(encoder, expected, batch):
    params = encoder.with_head(encoder.params, expected["weights"], expected["bias"])
    assert encoder.pooling == "mean"
    np.testing.assert_allclose(encoder.pooled(params, batch), expected["pooled"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(encoder.apply(params, batch), expected["logits"], rtol=0, atol=1e-5)
    last = encoder.hidden_states(params, batch)[-1]
    np.testing.assert_allclose(last[:, 0], expected["first_token"], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_export_equals_in_torch(encoder, tmp_path):
    sentence = pytest.importorskip("sentence_transformers")
    params = jax.tree.map(lambda leaf: leaf * 1.01, encoder.params)
    encoder.save_pretrained(tmp_path / "model", params)
    scores = sentence.SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    batch = encoder.tokenizer(TEXTS, padding=True, return_tensors="np")
    np.testing.assert_allclose(scores, encoder.apply(params, batch), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_export_with_the_familys_head_equals_in_torch(directory, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification

    encoder = Encoder.from_pretrained(directory, num_labels=3, pooling="pooler")
    params = jax.tree.map(lambda leaf: leaf * 1.01, encoder.params)
    encoder.save_pretrained(tmp_path / "model", params)
    batch = encoder.tokenizer(TEXTS, padding=True, return_tensors="np")
    model, notes = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(notes.values()), notes
    with torch.no_grad():
        logits = model(**{k: torch.tensor(v) for k, v in batch.items()}).logits
    np.testing.assert_allclose(encoder.apply(params, batch), logits, rtol=0, atol=1e-5)


def test_peak_memory_of_loading(name, directory):
    """Peak resident memory over the interpreter's own, as a multiple of the weights' size."""
    if name != "mpnet":
        pytest.skip("measured on the larger model")
    root = Path(__file__).parents[2]
    script = root / "experiments" / "encoder_speed" / "loading_memory.py"
    out = subprocess.run(
        [sys.executable, script, directory],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(out.stdout.split()[0]) < 1.3
