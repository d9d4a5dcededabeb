"""Writing a directory that torch loads: transformers' layout, or sentence-transformers'."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from blomix.encoders import sentence
from blomix.encoders.checkpoint import WEIGHTS
from blomix.encoders.configuration import ConfigReader, read_json
from blomix.encoders.keys import tensors
from blomix.encoders.loading import DENSE_KEYS
from blomix.encoders.source import TOKENIZER_FILES
from blomix.errors import InputError

if TYPE_CHECKING:
    from blomix.encoders.encoder import Encoder


def save(
    encoder: "Encoder",
    params: dict[str, Any],
    directory: Path,
    card: str | None,
    max_length: int | None,
) -> None:
    """Writes everything beside `directory` first and moves it there whole.

    Raises:
        InputError: `directory` exists and is not an empty directory, or cannot be written.
    """
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise InputError(f"{directory}: expected a new directory, found a file or a link")
    try:
        if directory.is_dir() and any(directory.iterdir()):
            raise InputError(f"{directory}: expected a new or empty directory, found files in it")
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as tmp:
            whole = Path(tmp) / "export"
            whole.mkdir()
            _write(encoder, params, whole, card, max_length or _max_tokens(encoder))
            whole.replace(directory)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror or error})") from error


def _write(
    encoder: "Encoder", params: dict[str, Any], directory: Path, card: str | None, max_tokens: int
) -> None:
    family, sentence_layout = encoder.family, encoder.pooling != "pooler"
    trunk_keys = family.keys
    if sentence_layout:
        trunk_keys = {
            ours: theirs.removeprefix(family.prefix)
            for ours, theirs in family.keys.items()
            if ours not in ("pooler", "pooler_norm", "head")
        }
    _save_tensors({**encoder.kept, **tensors(params, trunk_keys)}, directory / WEIGHTS)
    _write_json(_config(encoder, family.base if sentence_layout else family.classifier), directory)
    _copy_tokenizer(encoder, directory)
    if sentence_layout:
        a = encoder.architecture
        files = sentence.layout(encoder.pooling, a.hidden_size, encoder.num_labels, max_tokens)
        for name, content in files.items():
            _write_json(content, directory, name)
        _save_tensors(tensors(params, DENSE_KEYS), directory / "2_Dense" / WEIGHTS)
    (directory / "README.md").write_text(card or minimal_card(encoder), encoding="utf-8")


def minimal_card(encoder: "Encoder") -> str:
    """A model card that says what the directory is and how torch loads it."""
    if encoder.pooling == "pooler":
        library, use = "transformers", "AutoModelForSequenceClassification.from_pretrained(path)"
    else:
        library, use = "sentence-transformers", "SentenceTransformer(path).encode(texts)"
    names = encoder.label_names or [f"LABEL_{i}" for i in range(encoder.num_labels)]
    outputs = "one real number" if encoder.regression else f"logits of {', '.join(names)}"
    base = encoder.source.name if encoder.source else "random weights"
    return (
        f"---\nlibrary_name: {library}\ntags:\n- blomix\n- text-classification\n---\n\n"
        f"# Finetuned text encoder\n\n"
        f"- Base model: {base}\n- Pooling: {encoder.pooling}\n- Output: {outputs}\n\n"
        f"`{use}` gives the output.\n"
    )


def _save_tensors(arrays: dict[str, np.ndarray], path: Path) -> None:
    path.touch()
    mode = path.stat().st_mode  # safetensors leaves a file that its owner alone can read
    try:
        save_file(arrays, path, metadata={"format": "pt"})
    except SafetensorError as error:  # so it calls the system's errors, a full disk for one
        if (found := re.search(r"os error (\d+)", str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error
    path.chmod(mode)


def _config(encoder: "Encoder", architecture: str) -> dict[str, Any]:
    config = {k: v for k, v in encoder.config.items() if k not in ("torch_dtype", "num_labels")}
    own = {"architectures": [architecture], "dtype": "float32"}
    return {**config, **own, **encoder.labels.entries()}


def _max_tokens(encoder: "Encoder") -> int:
    longest = encoder.architecture.longest
    path = encoder.source and encoder.source.directory / "sentence_bert_config.json"
    if not path or not path.is_file():
        return longest
    return ConfigReader(read_json(path), str(path)).size("max_seq_length", longest)


def _write_json(content: Any, directory: Path, name: str = "config.json") -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_tokenizer(encoder: "Encoder", directory: Path) -> None:
    """Byte for byte, so that the exported model splits text exactly as the base does."""
    if encoder.source is None:
        return
    for name in TOKENIZER_FILES:
        if (encoder.source.directory / name).is_file():
            shutil.copyfile(encoder.source.directory / name, directory / name)
