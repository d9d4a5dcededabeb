"""Where a checkpoint comes from: a local directory, or a Hugging Face hub id."""

from dataclasses import dataclass
from pathlib import Path

from blomix.errors import InputError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
_PATTERNS = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "sentence_bert_config.json",
    "*_Pooling/config.json",
    "*_Dense/config.json",
    "*_Dense/model.safetensors",
    *TOKENIZER_FILES,
)


@dataclass(frozen=True)
class Source:
    """A directory on disk, the name the user gave, and the hub's commit where it is a snapshot."""

    directory: Path
    name: str
    commit: str | None = None


def locate(path_or_id: str | Path, revision: str | None = None) -> Source:
    """A local directory as it is, without the network; anything else as a hub id, downloaded.

    Raises:
        InputError: neither a directory nor a hub id that can be fetched.
    """
    name = str(path_or_id)
    try:
        path = Path(path_or_id).expanduser()
        if path.is_dir():
            return Source(path, name)
        taken = path.exists() or path.is_symlink()
    except (OSError, RuntimeError) as error:  # too long a name, or a home that nobody has
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name[:200]}: expected a directory with a model: {reason}") from error
    if taken:
        raise InputError(f"{name}: expected a directory with a model, found a file or broken link")
    if isinstance(path_or_id, Path) or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: expected a directory with a model, found no such directory")
    return _download(name, revision)


def _download(name: str, revision: str | None) -> Source:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        directory = snapshot_download(name, revision=revision, allow_patterns=list(_PATTERNS))
    except HFValidationError as error:
        raise InputError(
            f"{name!r}: expected a directory or a hub id such as org/name, found neither"
        ) from error
    except Exception as error:  # those of its HTTP client too, which derive from nothing of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name}: there is no such directory here, and the hub does not give it: {reason}"
        ) from error
    return Source(Path(directory), name, commit=Path(directory).name)
