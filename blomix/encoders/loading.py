"""From a checkpoint to parameters, one tensor at a time, the largest first.

Largest first, because reading a tensor briefly holds it twice: late in the load, when nearly all
weights are in memory, that must be a small one.
"""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from blomix.encoders.checkpoint import Checkpoint
from blomix.encoders.family import Family
from blomix.encoders.keys import Entry, entries, part_of
from blomix.encoders.model import Model
from blomix.errors import InputError

logger = logging.getLogger(__name__)
_SHOWN = 5
# Sentence-transformers' name for a dense layer's weights.
DENSE_KEYS = {"head": "linear"}


def load(
    model: Model,
    family: Family,
    checkpoint: Checkpoint,
    dense: Checkpoint | None,
    seed: int,
) -> tuple[dict[str, Any], frozenset[str]]:
    """The parameters of `model`, and its parts that the checkpoint lacks: drawn from the seed.

    `dense` holds the head of a model without its family's pooler.

    Raises:
        InputError: a tensor of the encoder is missing or has another shape.
    """
    key = jax.random.key(seed)
    abstract = jax.eval_shape(model.init, key)
    new: list[str] = []
    wanted: list[tuple[Entry, Checkpoint, tuple[str, ...]]] = []
    for part in model.parts:
        own, keys = checkpoint, family.keys
        if part == "head" and model.pooling != "pooler":
            own, keys = dense or Checkpoint([]), DENSE_KEYS
        found = _locate(entries({part: abstract[part]}, keys), own, family, part)
        if found is None:
            new.append(part)
        else:
            wanted += [(entry, own, names) for entry, names in found]

    params: dict[str, Any] = {part: model.init_part(part, key) for part in new}
    if new:
        logger.warning("%s: new weights, drawn from seed %d", " and ".join(new), seed)
    _report_unused(
        checkpoint,
        [part_of(name)[0] for _, own, names in wanted if own is checkpoint for name in names],
    )
    dtype = np.dtype(model.options.param_dtype)
    for entry, own, names in sorted(wanted, key=lambda item: -np.prod(item[0].shape)):
        leaf = entry.from_torch([own.read(name) for name in names], dtype)
        _put(params, entry.path, jnp.asarray(leaf))
    return params, frozenset(new)


def stored_name(name: str, checkpoint: Checkpoint, family: Family) -> str | None:
    """The name under which a checkpoint holds a tensor: with the head model's prefix or without."""
    for candidate in (name, name.removeprefix(family.prefix)):
        if checkpoint.shape(candidate) is not None:
            return candidate
    return None


def add_tokens(params: dict[str, Any], model: Model, size: int, seed: int) -> dict[str, Any]:
    """`params` with rows for the tokens that only the tokenizer knows, N(0, initializer_range)."""
    table = params["embeddings"]["token"]["embedding"]
    key = jax.random.fold_in(jax.random.key(seed), size)
    shape = (size - table.shape[0], table.shape[1])
    rows = model.architecture.initializer_range * jax.random.normal(key, shape, table.dtype)
    logger.warning("embeddings: %d new rows, for tokens that the tokenizer added", shape[0])
    embeddings = {**params["embeddings"], "token": {"embedding": jnp.concatenate([table, rows])}}
    return {**params, "embeddings": embeddings}


def head_size(
    family: Family, checkpoint: Checkpoint, dense: Checkpoint | None, pooling: str
) -> int | None:
    """The number of outputs of the checkpoint's own head, None where it has none."""
    if pooling == "pooler":
        shape = checkpoint.shape(family.keys["head"] + ".weight")
    else:
        shape = dense.shape("linear.weight") if dense else None
    return shape[0] if shape else None


def _locate(wanted: list[Entry], checkpoint: Checkpoint, family: Family, part: str):
    """Each entry with its stored names; None for a head or pooler that must be new."""
    found, missing = [], []
    for entry in wanted:
        names = [stored_name(name, checkpoint, family) for name in entry.names]
        missing += [n for n, stored in zip(entry.names, names, strict=True) if stored is None]
        found.append((entry, tuple(name for name in names if name is not None)))
    optional = part in ("pooler", "pooler_norm", "head")
    if missing and optional:
        return None
    if missing:
        shown = ", ".join(missing[:_SHOWN])
        raise InputError(
            f"checkpoint: {len(missing)} tensors are missing ({shown}"
            f"{', ...' if len(missing) > _SHOWN else ''}); it holds {_some(checkpoint.names)}"
        )
    for entry, names in found:
        for name in names:
            shape = checkpoint.shape(name)
            if shape != entry.torch_shape:
                line = (
                    f"{checkpoint.where(name)}: expected shape {entry.torch_shape}, found {shape}"
                )
                if not (part == "head" or (part == "pooler" and not family.pretrained_pooler)):
                    raise InputError(line)
                logger.warning("%s; the checkpoint's own %s is not used", line, part)
                return None
    return found


def _report_unused(checkpoint: Checkpoint, used: list[str]) -> None:
    unused = sorted(set(checkpoint.names) - set(used))
    if unused:
        logger.info("checkpoint: %d tensors are not used: %s", len(unused), _some(unused))


def _some(names: list[str]) -> str:
    """The first names, escaped where a file's bytes made them unfit for a line of text."""
    shown = [name if name.isprintable() else ascii(name) for name in names[:_SHOWN]]
    return ", ".join(shown) + (f", ... ({len(names)})" if len(names) > _SHOWN else "")


def _put(tree: dict[str, Any], path: tuple[str, ...], leaf: Any) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = leaf
