"""An encoder as pure functions of a nested dict of weights: init, hidden states, pooled, logits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from blomix.encoders import stack
from blomix.encoders.architecture import Architecture
from blomix.encoders.functions import dropout
from blomix.encoders.layers import ACTIVATIONS, Block, Embeddings, dense, layer_norm, split
from blomix.encoders.options import Options
from blomix.encoders.rows import split_rows
from blomix.errors import InputError

Batch = dict[str, jax.Array]
Params = dict[str, Any]
_PARTS = ("embeddings", "layers", "pooler", "head", "final_norm", "pooler_norm")
_DECODER_PARTS = ("decoder_embeddings", "decoder_layers")


def prepare(batch: Any, longest: int) -> Batch:
    """The model's inputs alone, with a mask of ones where there is none.

    Raises:
        InputError: `input_ids` is missing, is not (batch, tokens), or is longer than the model.
    """
    if "input_ids" not in batch:
        raise InputError(f"batch: expected the entry 'input_ids', found {sorted(batch)}")
    ids = jnp.asarray(batch["input_ids"])
    if ids.ndim != 2 or ids.shape[1] > longest:
        raise InputError(
            f"input_ids: expected shape (batch, tokens) with at most {longest} tokens, found "
            f"{ids.shape}; give a smaller maximal length"
        )
    mask = batch.get("attention_mask")
    inputs = {
        "input_ids": ids,
        "attention_mask": jnp.ones_like(ids) if mask is None else jnp.asarray(mask),
    }
    if batch.get("token_type_ids") is not None:
        inputs["token_type_ids"] = jnp.asarray(batch["token_type_ids"])
    return inputs


def draw(shapes: Any, key: jax.Array, scale: float) -> Params:
    """New weights as torch draws them: N(0, scale^2) matrices and tables, biases 0, norms 1."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    new = []
    for (path, leaf), own in zip(leaves, jax.random.split(key, len(leaves)), strict=True):
        kind = path[-1].key
        if kind in ("kernel", "embedding"):
            new.append(scale * jax.random.normal(own, leaf.shape, leaf.dtype))
        else:
            new.append(jnp.full(leaf.shape, float(kind == "scale"), leaf.dtype))
    return structure.unflatten(new)


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """What a Linen module makes of its inputs with these weights."""
    return module.apply({"params": params}, *inputs)


@dataclass(frozen=True)
class Model:
    """embeddings -> layers -> pooler -> head, each a part of `params` by that name.

    `pooling="pooler"` is the family's own: first token -> linear -> activation (in a few families
    the mean of tokens, and a LayerNorm after). `"cls"` (first token) and `"mean"` (over attended
    tokens) have no pooler. The head is one linear layer.

    Raises:
        InputError: a scan is asked of layers that differ in more than their weights.
    """

    architecture: Architecture
    options: Options
    pooling: str
    num_labels: int
    embeddings: type[nn.Module] = Embeddings
    block: type[nn.Module] = Block
    uniform_layers: bool = True

    def __post_init__(self):
        if self.options.scan_layers and not self.uniform_layers:
            raise InputError(
                "scan_layers: expected False for this family, whose layers differ, found True"
            )

    @property
    def parts(self) -> tuple[str, ...]:
        a, pools = self.architecture, self.pooling == "pooler"
        absent = {"final_norm": not a.final_norm, "pooler": not pools}
        absent["pooler_norm"] = not (pools and a.pooler_norm)
        return tuple(part for part in _PARTS if not absent.get(part))

    @property
    def stacked(self) -> bool:
        """Whether the layers' weights are stacked; shared ones have nothing to stack."""
        return self.options.scan_layers and not self.architecture.shared_layers

    def init(self, key: jax.Array) -> Params:
        """New weights; a part's numbers depend on the key and on that part alone."""
        return {part: self.init_part(part, key) for part in self.parts}

    def init_part(self, part: str, key: jax.Array) -> Params:
        """New weights of one part, the same as `init(key)[part]`."""
        a = self.architecture
        key = jax.random.fold_in(key, (_PARTS + _DECODER_PARTS).index(part))
        scales = {"head": a.head_scale, "pooler": a.pooler_scale}
        scale = scales.get(part) or a.initializer_range
        if not part.endswith("layers"):
            return draw(self._shapes(part), key, scale)
        keys = jax.random.split(key, len(set(self.order(part))))
        layers = [draw(self._shapes(part, i), own, scale) for i, own in enumerate(keys)]
        if self.stacked:
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
        return {str(i): layer for i, layer in enumerate(layers)}

    def _shapes(self, part: str, layer: int = 0) -> Any:
        """The shapes of a part's weights; of one layer, for the layers."""
        module, key = self.module(part, layer), jax.random.key(0)
        return dict(jax.eval_shape(module.init, key, *self.example(part)))["params"]

    def hidden_states(self, params: Params, batch: Any, key=None) -> tuple[jax.Array, ...]:
        """The embeddings' output and each layer's: num_layers + 1 arrays (B, S, H)."""
        return tuple(self.states(params, prepare(batch, self.architecture.longest), key))

    def pooled(self, params: Params, batch: Any, key=None, noise=None) -> jax.Array:
        """The head's input (B, H), dropped out where there is a key; `noise` as in `logits`."""
        a = self.architecture
        inputs = prepare(batch, a.longest)
        trunk, before_pooler, before_head = split(key, 3)
        x = self.states(params, inputs, trunk, noise)[-1]
        pools = self.pooling == "pooler"
        if (a.pooler_input if pools else self.pooling) == "mean":
            mask = (inputs["attention_mask"] > 0).astype(self.options.param_dtype)
            total = jnp.einsum("bsh,bs->bh", x.astype(mask.dtype), mask)
            x = total / jnp.maximum(mask.sum(axis=1, keepdims=True), 1e-9)
        else:
            x = self.token(x, inputs) if pools else x[:, 0]
        if pools:
            x = dropout(x, a.dropout.pooler_input, before_pooler)
            x = apply(self.module("pooler"), params["pooler"], split_rows(x))
            x = ACTIVATIONS[a.pooler_activation](x)
            if a.pooler_norm:
                x = apply(self.module("pooler_norm"), params["pooler_norm"], x)
        return dropout(split_rows(x), a.dropout.classifier, before_head)

    def logits(self, params: Params, batch: Any, key=None, noise=None) -> jax.Array:
        """(B, num_labels), float32 whatever the compute dtype.

        `noise` (steps of the stack, B, S, H) is added to the input of each step.
        """
        pooled = self.pooled(params, batch, key, noise)
        return split_rows(apply(self.module("head"), params["head"], pooled))

    # ---- what a family may replace ----

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raises InputError where a tokenizer's arrays have an id beyond a table, which a look-up
        would make NaN."""
        a = self.architecture
        for name, rows in (("input_ids", a.vocab_size), ("token_type_ids", a.type_vocab_size)):
            largest = arrays[name].max(initial=0) if name in arrays else 0
            if rows and largest >= rows:  # no rows: the family has no such table, and ignores them
                raise InputError(
                    f"{name}: expected ids below {rows}, the rows of the encoder's table, found "
                    f"{largest}; the tokenizer in the model's directory belongs to another encoder"
                )

    def token(self, x: jax.Array, inputs: Batch) -> jax.Array:
        """The state (B, H) that the family's pooler reads: the first token's."""
        return x[:, 0]

    def states(self, params: Params, inputs: Batch, key, noise=None) -> list[jax.Array]:
        """All hidden states, of prepared inputs."""
        tables = params["embeddings"]
        if not self.options.train_embeddings:
            tables = jax.lax.stop_gradient(tables)
        first, rest = split(key, 2)
        x, context = apply(self.module("embeddings"), tables, inputs, first)
        states = self.run("layers", params, x, context, rest, noise)
        if self.architecture.final_norm:
            states[-1] = apply(self.module("final_norm"), params["final_norm"], states[-1])
        return states

    def order(self, part: str) -> tuple[int, ...]:
        """Which layer's weights each step of a stack uses."""
        return self.architecture.layer_of_step

    def module(self, part: str, layer: int = 0) -> nn.Module:
        """The Linen module of a part (of one layer, for the layers)."""
        a, options = self.architecture, self.options
        if part == "embeddings":
            return self.embeddings(a, options)
        if part == "layers":
            return self.block(a, options, layer)
        if part == "pooler":
            return dense(a.hidden_size, None, options, use_bias=a.pooler_bias)
        if part == "head":
            return dense(self.num_labels, None, options, dtype=options.param_dtype)
        return layer_norm(None, a, options)

    def example(self, part: str) -> tuple[Any, ...]:
        """Inputs of a part's module, of the least size, without values that matter."""
        token = jnp.zeros((1, 1), jnp.int32)
        inputs = ({"input_ids": token, "attention_mask": token}, None)
        if part == "embeddings":
            return inputs
        module = self.module("embeddings")
        shapes = jax.eval_shape(module.init_with_output, jax.random.key(0), *inputs)
        x, context = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes[0])
        return (x, context, None) if part == "layers" else (x,)

    # ---- what it shares ----

    def run(self, part: str, params: Params, x, context, key, noise=None) -> list[jax.Array]:
        """The states of a stack of layers, from its first one."""
        order = self.order(part)

        def step(layer, weights, x, own):
            key, noise = own
            x = x if noise is None else x + noise.astype(x.dtype)
            return apply(self.module(part, layer), weights, x, context, key)

        return stack.run(
            step,
            params[part],
            x,
            (None if key is None else jax.random.split(key, len(order)), noise),
            order,
            scan=self.options.scan_layers,
            stacked=self.stacked,
            remat=self.options.remat,
        )
