"""What lies above what, in an encoder and in one with a decoder."""

import jax
import pytest

from blomix import Encoder
from blomix._trees import joined
from blomix.baselines.layers import above, depth_of, number_of_layers
from blomix.baselines.lora import Lora
from tests.encoders.test_encoder import BART, CONFIG

PARTS = {
    "bert": (CONFIG, {"embeddings": 0, "layers/0": 1, "layers/1": 2, "pooler": 3, "head": 3}),
    "bart": (
        BART,
        {"embeddings": 0, "layers/0": 1, "layers/1": 2, "decoder_embeddings": 2}
        | {"decoder_layers/0": 3, "pooler": 4, "head": 4},
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_depths(name):
    config, parts = PARTS[name]
    encoder = Encoder.from_config(config, num_labels=2)
    for path, _ in jax.tree_util.tree_leaves_with_path(encoder.params):
        (depth,) = {d for part, d in parts.items() if f"{joined(path)}/".startswith(f"{part}/")}
        assert depth_of(encoder, path) == depth, joined(path)


def test_the_top_layer_of_a_decoder_is_its_last():
    encoder = Encoder.from_config(BART, num_labels=2)
    top = above(encoder, number_of_layers(encoder) - 1).paths
    assert {path.split("/")[0] for path in top} == {"decoder_layers", "pooler", "head"}


def test_lora_changes_queries_and_values_of_every_attention():
    class Job:  # all that is looked at of one
        encoder = Encoder.from_config(BART, num_labels=2)

    changed = {path.removesuffix("/kernel") for path in Lora().changed(Job).paths}
    decoder = {f"decoder_layers/0/{name}" for name in ("cross_query", "cross_value")}
    decoder |= {f"decoder_layers/0/{name}" for name in ("query", "value")}
    encoder = {f"layers/{i}/{name}" for i in (0, 1) for name in ("query", "value")}
    assert changed == encoder | decoder
