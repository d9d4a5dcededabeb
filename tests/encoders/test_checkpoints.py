"""The shapes in which checkpoints come: names, dtypes, shards, absent parts, larger tokenizers."""

import json
import os
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from blomix.encoders import Encoder
from blomix.errors import InputError
from tests.golden.encoders import compare

GOLDEN = Path(__file__).parents[1] / "golden" / "encoders"
BATCH = {"input_ids": np.array([[3, 7, 9, 4]], np.int32)}


@pytest.fixture
def directory(tmp_path):
    return shutil.copytree(GOLDEN / "bert", tmp_path / "model")


@pytest.fixture(scope="module")
def usual():
    return Encoder.from_pretrained(GOLDEN / "bert")


def rewrite(directory, change):
    """Replaces the tensors by `change(name, tensor)`: new items, none where it gives None."""
    path = directory / "model.safetensors"
    changed = [change(name, tensor) for name, tensor in load_file(path).items()]
    save_file(dict(item for item in changed if item), path, metadata={"format": "pt"})


def assert_same_logits(directory, usual, tolerance=0.0, **options):
    other = Encoder.from_pretrained(directory, **options)
    np.testing.assert_allclose(
        other.apply(other.params, BATCH), usual.apply(usual.params, BATCH), rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("name", compare.NAMES)
def test_names_without_prefix(name, tmp_path):
    directory = shutil.copytree(GOLDEN / name, tmp_path / "model")
    prefix = Encoder.from_pretrained(directory).family.prefix
    rewrite(directory, lambda name, tensor: (name.removeprefix(prefix), tensor))
    bare, usual = (Encoder.from_pretrained(path).params for path in (directory, GOLDEN / name))
    for leaf, same in zip(jax.tree.leaves(bare), jax.tree.leaves(usual), strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_old_names_of_layer_norm(directory, usual):
    def old(name, tensor):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta"), tensor

    rewrite(directory, old)
    assert_same_logits(directory, usual)


def test_shards(directory, usual):
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for i in (0, 1):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names[i::2]}, directory / file)
        index |= dict.fromkeys(names[i::2], file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert_same_logits(directory, usual)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_is_read_exactly(directory, dtype):
    rewrite(directory, lambda name, tensor: (name, tensor.astype(dtype)))
    half = Encoder.from_pretrained(directory)
    rewrite(directory, lambda name, tensor: (name, tensor.astype(np.float32)))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(half.params))
    assert_same_logits(directory, half)


def test_heads_of_pretraining_are_passed_over(directory, usual, caplog):
    caplog.set_level("INFO")
    tensors = load_file(directory / "model.safetensors")
    table = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = table  # tied
    tensors["bert.embeddings.position_ids"] = np.arange(32)[None]
    save_file(tensors, directory / "model.safetensors")
    assert_same_logits(directory, usual)
    assert "2 tensors are not used: bert.embeddings.position_ids, cls.predictions" in caplog.text


def test_pooler_that_is_absent_is_new(directory, usual, caplog):
    rewrite(directory, lambda name, tensor: None if "pooler" in name else (name, tensor))
    one, same = (Encoder.from_pretrained(directory, seed=5) for _ in range(2))
    assert "pooler: new weights, drawn from seed 5" in caplog.text
    for leaf, other in zip(jax.tree.leaves(one.params), jax.tree.leaves(same.params), strict=True):
        np.testing.assert_array_equal(leaf, other)
    np.testing.assert_array_equal(
        one.params["layers"]["0"]["query"]["kernel"],
        usual.params["layers"]["0"]["query"]["kernel"],
    )
    # There is nothing pretrained in it to mix with, to hold on to or to freeze.
    pooler = ("pooler", "kernel")
    assert (usual.is_mixed(pooler), usual.is_head(pooler)) == (True, False)
    assert (one.is_mixed(pooler), one.is_head(pooler)) == (False, True)


def test_larger_tokenizer_gets_new_rows(directory, usual, tmp_path, caplog):
    vocab = {f"word{i}": i for i in range(30)}
    added = [{"id": 30, "content": "<new>"}, {"id": 31, "content": "<newer>"}]
    content = {"model": {"vocab": vocab}, "added_tokens": added}
    (directory / "tokenizer.json").write_text(json.dumps(content))
    larger = Encoder.from_pretrained(directory)
    assert "2 new rows" in caplog.text
    table = larger.params["embeddings"]["token"]["embedding"]
    assert table.shape == (32, 16)
    np.testing.assert_array_equal(table[:30], usual.params["embeddings"]["token"]["embedding"])
    larger.save_pretrained(tmp_path / "larger")
    again = Encoder.from_pretrained(tmp_path / "larger")
    np.testing.assert_array_equal(again.params["embeddings"]["token"]["embedding"], table)


def test_label_names_in_another_order(usual, tmp_path):
    named = Encoder.from_pretrained(GOLDEN / "bert", label_names=["a", "b", "c"])
    named.save_pretrained(tmp_path / "named")
    other = Encoder.from_pretrained(tmp_path / "named", label_names=["c", "a", "b"])
    logits = np.asarray(usual.apply(usual.params, BATCH))
    np.testing.assert_allclose(other.apply(other.params, BATCH), logits[:, [2, 0, 1]], atol=1e-6)


def test_dense_layer_with_an_activation_is_no_head(directory, tmp_path, caplog):
    mean = Encoder.from_pretrained(directory, pooling="mean", num_labels=4)
    mean.save_pretrained(tmp_path / "mean")
    dense = tmp_path / "mean" / "2_Dense" / "config.json"
    config = json.loads(dense.read_text())
    dense.write_text(json.dumps(config | {"activation_function": "torch.nn.modules.Tanh"}))
    caplog.clear()
    again = Encoder.from_pretrained(tmp_path / "mean")
    assert again.pooling == "mean"
    assert again.num_labels == 2
    assert "head: new weights" in caplog.text


def test_tokenizer_files_are_kept_byte_for_byte(directory, tmp_path):
    (directory / "vocab.txt").write_text("[PAD]\n[UNK]\nünïcode\n", encoding="utf-8")
    Encoder.from_pretrained(directory).save_pretrained(tmp_path / "copy")
    copy = tmp_path / "copy" / "vocab.txt"
    assert copy.read_bytes() == (directory / "vocab.txt").read_bytes()


def test_an_export_can_be_read_by_whom_the_umask_lets(usual, tmp_path):
    before = os.umask(0o022)
    try:
        usual.save_pretrained(tmp_path / "out")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert set(modes.values()) == {0o644}


def test_a_full_disk_is_an_error_of_the_system(usual, tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("blomix.encoders.export.save_file", full)
    with pytest.raises(InputError, match="No space left"):
        usual.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
