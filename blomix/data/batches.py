"""Examples -> token arrays, and which rows make up batch t."""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from blomix.data.examples import Examples
from blomix.errors import InputError

_BATCHES = 4  # keeps this stream apart from those of `splits`
_SHORTEST = 8
_CHUNK = 2000  # rows that are tokenised at once: a tokenizer's own record of them takes most memory


def encode(
    examples: Examples,
    tokenizer: Any,
    max_length: int,
    multiple: int = 16,
    positions: float = math.inf,
) -> dict[str, np.ndarray]:
    """Token arrays (n, length) int32, and `labels` (n,) where there are any.

    length is the smallest multiple of `multiple` that covers the longest row, at most
    `max_length`; longer rows are cut as the tokenizer cuts pairs, the longer text first.
    positions: most tokens that the encoder takes.

    Raises InputError as `check_length` does.
    """
    check_length(tokenizer, max_length, positions)
    columns: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(examples), _CHUNK):
        texts = [
            list(column[start : start + _CHUNK])
            for column in (examples.texts, examples.pairs)
            if column is not None
        ]
        tokens = tokenizer(
            *texts, truncation=True, max_length=max_length, return_attention_mask=True
        )
        for name, rows in tokens.items():
            columns.setdefault(name, []).extend(np.array(row, np.int32) for row in rows)
    covering = -(-max(map(len, columns["input_ids"])) // multiple) * multiple
    fill = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    left = tokenizer.padding_side == "left"
    arrays = {
        name: _padded(rows, min(covering, max_length), fill.get(name, 0), left)
        for name, rows in columns.items()
    }
    if examples.labels is not None:
        dtype = np.float32 if examples.is_regression else np.int32
        arrays["labels"] = examples.labels.astype(dtype)
    return arrays


def check_length(tokenizer: Any, max_length: int, positions: float) -> None:
    """Raises InputError where `max_length` is too short for special tokens, or longer than the
    tokenizer or the encoder allows, whatever the texts' own lengths."""
    longest = min(tokenizer.model_max_length, positions)
    if not isinstance(max_length, int) or not _SHORTEST <= max_length <= longest:
        which = "encoder has positions for" if longest == positions else "tokenizer allows"
        raise InputError(
            f"expected a --max-length of {_SHORTEST} to {longest} tokens, which is what the "
            f"{which}, found {max_length}"
        )


def cut_rows(
    examples: Examples, tokenizer: Any, arrays: dict[str, np.ndarray], max_length: int
) -> int:
    """How many rows `encode` cut to make `arrays`."""
    full = np.flatnonzero(arrays["attention_mask"].sum(axis=1) == max_length)
    if not len(full):
        return 0
    rows = examples.select(full)
    texts = [list(column) for column in (rows.texts, rows.pairs) if column is not None]
    tokens = tokenizer(*texts, truncation=False, verbose=False)
    return sum(len(row) > max_length for row in tokens["input_ids"])


def _padded(rows: list[np.ndarray], length: int, fill: int, left: bool) -> np.ndarray:
    array = np.full((len(rows), length), fill, np.int32)
    for i, row in enumerate(rows):
        array[i, length - len(row) if left else 0 :][: len(row)] = row
    return array


def batch_rows(n: int, batch_size: int, *, seed: int, fold: int, step: int) -> np.ndarray:
    """Rows (batch_size,) of batch `step`: a function of its arguments alone, so runs can resume.

    An epoch is ceil(n / batch_size) steps over one permutation of the n rows, drawn from
    (seed, fold, epoch). The last batch of an epoch is filled up from the start of the same
    permutation (over and over where n < batch_size), so that every batch has the same shape.
    """
    if min(n, batch_size) < 1 or min(seed, fold, step) < 0:
        raise InputError(
            f"expected at least one row and a batch size of at least 1, and seed, fold and step "
            f"not negative, found {n} rows, batch size {batch_size}, {seed}, {fold}, {step}"
        )
    epoch, place = divmod(step, -(-n // batch_size))
    positions = place * batch_size + np.arange(batch_size)
    return _permutation(n, seed, fold, epoch)[positions % n]


@lru_cache(maxsize=32)
def _permutation(n: int, seed: int, fold: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([_BATCHES, seed, fold, epoch]).permutation(n)
