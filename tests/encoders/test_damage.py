"""Whatever is damaged in an encoder's directory: it loads, or one InputError of one line."""

import shutil

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blomix.encoders import Encoder
from blomix.errors import InputError
from tests.fuzz import RUNS, mutated

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def fuzzed(tiny_model, tmp_path_factory):
    return shutil.copytree(tiny_model, tmp_path_factory.mktemp("fuzzed") / "model")


@RUNS
@given(name=st.sampled_from(FILES), data=st.data())
def test_any_damage_is_told_or_harmless(fuzzed, tiny_model, name, data):
    sound = (tiny_model / name).read_bytes()
    (fuzzed / name).write_bytes(data.draw(mutated(st.just(sound))))
    message = ""
    try:
        encoder = Encoder.from_pretrained(fuzzed, num_labels=2)
        inputs = {"input_ids": np.ones((1, 3), np.int32)}
        assert jax.eval_shape(encoder.model.logits, encoder.params, inputs).shape == (1, 2)
        encoder.tokenizer(["the film"], return_tensors="np")
    except InputError as error:
        message = str(error)
    finally:
        (fuzzed / name).write_bytes(sound)
    assert not message or message.isprintable()
    assert len(message) < 2000
