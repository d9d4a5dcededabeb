"""A user's mistake, or a hostile directory, gives one clear line."""

import contextlib
import io
import json
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from blomix.data import Examples
from blomix.encoders import Encoder
from blomix.errors import InputError
from tests.encoders.test_encoder import BART, CONFIG, MODERNBERT

DEBERTA = CONFIG | {
    "model_type": "deberta-v2",
    "relative_attention": True,
    "share_att_key": True,
    "pos_att_type": ["c2p", "p2c"],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "model"
    Encoder.from_config(CONFIG, num_labels=3).save_pretrained(directory)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def refused(path, *words, **options):
    """The one line with which loading `path` is refused; it must hold all of `words`."""
    with pytest.raises(InputError) as error:
        Encoder.from_pretrained(path, **options)
    line = str(error.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(directory, change):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_no_such_directory(tmp_path):
    refused(tmp_path / "none", "no such directory")
    refused(str(tmp_path / "none"), "no such directory")


def test_a_file(directory):
    refused(directory / "config.json", "expected a directory")


def test_a_name_that_is_no_hub_id():
    refused("not a name!", "hub id")


def test_a_hub_that_cannot_be_reached_by_whatever_error(monkeypatch):
    class ProxyError(Exception):
        """As httpx has it: no OSError, nor one of the hub's own."""

    def snapshot_download(*_, **__):
        raise ProxyError("407 Proxy Authentication Required\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    refused("an-org/a-model", "the hub does not give it: 407 Proxy Authentication Required")


def test_symlink_loop(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    refused(tmp_path / "a", "broken link")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "a")
    refused(tmp_path / "model", "config.json", "cannot be read")


def test_no_config(directory):
    (directory / "config.json").unlink()
    refused(directory, "config.json")


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[1]", b"[" * 100_000, b""])
def test_malformed_config(directory, text):
    (directory / "config.json").write_bytes(text)
    refused(directory, "config.json", "expected")


def test_unknown_family_names_the_supported_ones(directory):
    edit_config(directory, model_type="gpt2")
    refused(directory, "gpt2", "bert")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", float("nan")),
        ("hidden_size", "8"),
        ("hidden_size", 10**30),
        ("vocab_size", -1),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 1.5),
        ("num_attention_heads", 3),
        ("layer_norm_eps", float("inf")),
        ("hidden_dropout_prob", 1.0),
        ("hidden_act", "mish"),
        ("position_embedding_type", "relative_key"),
    ],
)
def test_senseless_config(directory, name, value):
    edit_config(directory, **{name: value})
    refused(directory, name, "expected", "found")


def test_config_without_a_size(directory):
    config = {k: v for k, v in CONFIG.items() if k != "vocab_size"}
    (directory / "config.json").write_text(json.dumps(config))
    refused(directory, "vocab_size")


def test_no_weights(directory):
    (directory / "model.safetensors").unlink()
    refused(directory, "weights", "model.safetensors")


def test_pickle_is_refused(directory):
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    refused(directory, "pytorch_model.bin", "convert")


def test_code_in_a_directory_is_never_run(tiny_model, tmp_path, monkeypatch):
    """Not even where somebody says yes: nobody is asked."""
    folder, ran = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\nfrom transformers import PreTrainedTokenizerFast as Evil\n"
    (folder / "evil.py").write_text(code)
    for name in ("config.json", "tokenizer_config.json"):
        changes = {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"}
        content = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(content))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with contextlib.suppress(InputError):
        Encoder.from_pretrained(folder).tokenizer(["good"])
    assert not ran.exists()


def test_truncated_weights(directory):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(directory, "model.safetensors", "whole safetensors file")


@pytest.mark.parametrize("header", [2**62, 10**12, 99_999_999, 0])
def test_lying_header_length(directory, header):
    path = directory / "model.safetensors"
    path.write_bytes(struct.pack("<Q", header) + path.read_bytes()[8:])
    refused(directory, "model.safetensors")


def test_header_that_claims_terabytes(directory):
    entry = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"bert.embeddings.word_embeddings.weight": entry}).encode()
    path = directory / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(directory, "model.safetensors")


def test_config_that_claims_terabytes(directory):
    edit_config(directory, vocab_size=10**9, hidden_size=2 * 10**4)
    refused(directory, "expected shape (20000,)", "found (8,)")


def test_missing_tensor(directory):
    name = "bert.encoder.layer.1.output.dense.bias"
    edit_weights(directory, lambda tensors: tensors.pop(name))
    refused(directory, name, "missing")


def test_names_that_would_turn_the_line_around(directory):
    name = "bert.embeddings.word_embeddings.weight"
    edit_weights(directory, lambda t: t.update({"bert.A\u202ebad": t.pop(name)}))
    refused(directory, name, "missing", r"bert.A\u202ebad")


def test_wrong_shape(directory):
    name = "bert.encoder.layer.0.attention.self.query.weight"
    edit_weights(directory, lambda t: t.update({name: np.zeros((8, 9), np.float32)}))
    refused(directory, name, "expected shape (8, 8)", "found (8, 9)")


def test_quantised_weights(directory):
    name = "bert.encoder.layer.0.attention.self.query.weight"
    edit_weights(directory, lambda t: t.update({name: np.zeros((8, 8), np.int8)}))
    refused(directory, name, "I8")


@pytest.mark.parametrize("name", ["../model.safetensors", "gone.safetensors"])
def test_index_that_points_elsewhere(directory, name):
    (directory / "model.safetensors").rename(directory.parent / "model.safetensors")
    index = {"weight_map": {"bert.pooler.dense.bias": name}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(directory, name)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"num_labels": 2, "label_names": ["a", "b", "c"]}, "num_labels"),
        ({"label_names": ["a", "a"]}, "distinct"),
        ({"num_labels": 0}, "num_labels"),
        ({"num_labels": 2, "regression": True}, "regression"),
        ({"num_labels": 1, "regression": False}, "num_labels"),
        ({"label_names": ["a"], "regression": False}, "num_labels"),
        ({"pooling": "max"}, "pooling"),
        ({"dtype": "int8"}, "dtype"),
        ({"attention": "flash"}, "attention"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": {"everywhere": 0.1}}, "everywhere"),
    ],
)
def test_contradictory_options(directory, options, word):
    refused(directory, word, "expected", "found", **options)


def test_pooling_of_a_kind_that_is_not_supported(directory):
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    modes = {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    refused(directory, "mean + max", "pooling=")
    assert Encoder.from_pretrained(directory, pooling="mean").pooling == "mean"


def test_module_path_outside_the_directory(directory):
    modules = [{"type": "x.Pooling", "path": "../elsewhere"}]
    (directory / "modules.json").write_text(json.dumps(modules))
    refused(directory, "../elsewhere")


def test_input_that_is_too_long_or_absent():
    encoder = Encoder.from_config(CONFIG)
    with pytest.raises(InputError, match="at most 16 tokens"):
        encoder.apply(encoder.params, {"input_ids": np.zeros((1, 17), np.int32)})
    with pytest.raises(InputError, match="input_ids"):
        encoder.apply(encoder.params, {"attention_mask": np.zeros((1, 17), np.int32)})


def test_saving_over_something(directory):
    encoder = Encoder.from_config(CONFIG)
    with pytest.raises(InputError, match="empty directory"):
        encoder.save_pretrained(directory)
    with pytest.raises(InputError, match="found a file"):
        encoder.save_pretrained(directory / "config.json")
    with pytest.raises(InputError, match="cannot be written"):
        encoder.save_pretrained(directory / "config.json" / "model")


def test_head_of_another_shape():
    encoder = Encoder.from_config(CONFIG, num_labels=3)
    with pytest.raises(InputError, match=r"expected shape \(8, 3\), found \(8, 2\)"):
        encoder.with_head(encoder.params, np.zeros((8, 2)), np.zeros(3))


def test_no_tokenizer(directory):
    with pytest.raises(InputError, match="tokenizer"):
        _ = Encoder.from_config(CONFIG).tokenizer


@pytest.mark.parametrize(
    ("config", "changes", "word"),
    [
        (DEBERTA, {"share_att_key": None}, "share_att_key"),  # torch takes an absent one for False
        (DEBERTA, {"relative_attention": None}, "relative_attention"),
        (MODERNBERT, {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "rope_scaling"),
        (MODERNBERT, {"rope_parameters": "x"}, "rope_parameters"),
        (MODERNBERT, {"rope_parameters": {"full_attention": 5}}, "rope_parameters"),
        (MODERNBERT, {"layer_types": [["a"], "b"]}, "layer_types"),
        (MODERNBERT, {"num_attention_heads": MODERNBERT["hidden_size"]}, "even size"),
        (DEBERTA, {"position_buckets": 1}, "position_buckets"),
    ],
)
def test_what_would_be_computed_otherwise_or_not_at_all_is_refused(config, changes, word):
    Encoder.abstract(config)
    with pytest.raises(InputError, match=word):
        Encoder.abstract(config | changes)


def test_modernbert_has_the_window_that_torch_reads():
    reach = [
        Encoder.abstract(MODERNBERT | own).architecture.reach
        for own in ({}, {"local_attention": 12}, {"sliding_window": 3, "local_attention": 12})
    ]
    assert reach == [64, 6, 3]


def test_float64_without_it_enabled_is_refused():
    with pytest.raises(InputError, match="jax_enable_x64"):
        Encoder.abstract(CONFIG, dtype="float64")


@pytest.mark.parametrize(
    ("config", "arrays", "words"),
    [
        (CONFIG, {"input_ids": [[1, 11]]}, "input_ids: expected ids below 11"),
        (
            CONFIG | {"type_vocab_size": 1},
            {"input_ids": [[1, 2]], "token_type_ids": [[0, 1]]},
            "token_type_ids: expected ids below 1,",
        ),
        (BART, {"input_ids": [[1, 2], [1, 3]]}, "none in row 1"),
    ],
)
def test_ids_that_the_encoder_has_no_row_for(config, arrays, words):
    """A look-up beyond the table gives NaN, and training would be said to have diverged."""
    model = Encoder.abstract(config).model
    model.check({"input_ids": np.array([[1, 2]]), "token_type_ids": np.array([[0, 0]])})
    with pytest.raises(InputError, match=words):
        model.check({name: np.array(rows) for name, rows in arrays.items()})


def test_a_tokenizer_of_another_encoder(directory):
    """The size of one without tokenizer.json is not known before texts are encoded."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    (directory / "vocab.txt").write_text("\n".join(words) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 16}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    encoder = Encoder.from_pretrained(directory)
    known, unknown = (Examples((text,), None, None) for text in ("a b", "a j"))
    assert encoder.encode(known, max_length=8)["input_ids"].shape == (1, 8)
    with pytest.raises(InputError, match=r"input_ids: expected ids below 11.*found 14"):
        encoder.encode(unknown, max_length=8)
