"""A tiny BERT and a tiny labelled data set, as directories and files that a user would have."""

import csv
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Compiling is most of the time: what one test compiled is there for the next, and for the commands
# that it starts, but nothing that another run, or another worker of this one, has compiled.
os.environ["BLOMIX_CACHE_DIR"] = ""
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="blomix-compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

WORDS = "good bad fine awful great poor film book song play was is very quite the a".split()  # noqa: SIM905


def pytest_unconfigure():
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A Hugging Face directory of a random BERT: 2 layers, 16 hidden."""
    return write_model(tmp_path_factory.mktemp("tiny-bert"))


def write_model(folder: Path, layers: int = 2) -> Path:
    from blomix.encoders import Encoder

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "initializer_range": 0.1,
    }
    Encoder.from_config(config, num_labels=2, seed=7).save_pretrained(folder)
    write_tokenizer(folder, vocabulary)
    return folder


def write_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory) -> dict[str, Path]:
    """Files of two learnable classes (train, validation, unlabelled), and scores with values."""
    return write_reviews(tmp_path_factory.mktemp("reviews"))


def write_reviews(folder: Path) -> dict[str, Path]:
    good, bad = ("good", "fine", "great"), ("bad", "awful", "poor")
    rows = [
        (f"the {thing} was {degree} {word}", "positive" if word in good else "negative")
        for thing in ("film", "book", "song", "play")
        for degree in ("very", "quite")
        for word in good + bad
    ]
    split = 30  # five of the eight groups of six, balanced like the others
    files = {
        "train": (("text", "label"), rows[:split]),
        "validation": (("text", "label"), rows[split:]),
        "unlabelled": (("text",), [(text,) for text, _ in rows[split:]]),
        "scores": (
            ("text", "score"),
            [(text, 1.5 + (label == "positive") + 0.1 * i) for i, (text, label) in enumerate(rows)],
        ),
    }
    for name, (header, body) in files.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *body])
    return {name: folder / f"{name}.csv" for name in files}


@pytest.fixture
def blomix(capsys):
    """Runs the command line in this process: `blomix("predict", run, ...) -> (code, out, err)`."""
    from blomix.cli import _main

    def call(*arguments):
        try:
            code = _main([str(argument) for argument in arguments])
        except SystemExit as stop:  # a usage error or --help, raised by the parser
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def float64():
    """Doubles in JAX, for one test."""
    import jax

    with jax.enable_x64(True):
        yield


def result_of(output: str) -> dict:
    """The one JSON line of a command run with `--json`."""
    (line,) = output.strip().splitlines()
    return json.loads(line)


@contextmanager
def compiling_quickly():
    """Compiles without optimising: the models are so small that compiling is all the time."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def quick_to_compile():
    with compiling_quickly():
        yield
