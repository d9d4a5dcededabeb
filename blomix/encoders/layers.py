"""The Linen modules that the families share: a table, embeddings, a transformer layer."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from blomix.encoders.architecture import Architecture
from blomix.encoders.functions import dropout, gelu, normalise, softmax
from blomix.encoders.options import Options
from blomix.encoders.rows import split_look_up

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def split(key: jax.Array | None, number: int):
    """`number` keys, or as many Nones where there is no key (dropout off)."""
    return [None] * number if key is None else list(jax.random.split(key, number))


def row_product(x, kernel, dimension_numbers, precision=None, preferred_element_type=None):
    """`x @ kernel` with x as one matrix of rows.

    For the gradient of the kernel it leaves one contracted axis in place of two (batch, position);
    over two, XLA's CPU product takes thrice the time.
    """
    del dimension_numbers  # nn.Dense's: x's last axis with the kernel's first
    rows = x.reshape(-1, x.shape[-1])
    product = jax.lax.dot(
        rows, kernel, precision=precision, preferred_element_type=preferred_element_type
    )
    return product.reshape(*x.shape[:-1], -1)


def dense(
    features: int,
    name: str | None,
    options: Options,
    *,
    dtype: str | None = None,
    use_bias: bool = True,
) -> nn.Dense:
    """A linear layer, kernel (in, out)."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype or options.dtype,
        param_dtype=options.param_dtype,
        dot_general=row_product,
        name=name,
    )


class LayerNorm(nn.Module):
    """Ba et al., 2016, arXiv:1607.06450, over the last axis; in float32 at least."""

    epsilon: float
    use_bias: bool
    options: Options

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        options = self.options
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, options.param_dtype)
        out = normalise(x.astype(options.param_dtype), self.epsilon) * scale
        if self.use_bias:
            out += self.param("bias", nn.initializers.zeros, shape, options.param_dtype)
        return out.astype(options.dtype)


def layer_norm(name: str | None, architecture: Architecture, options: Options) -> LayerNorm:
    """The family's LayerNorm."""
    a = architecture
    return LayerNorm(a.norm_epsilon, a.norm_bias, options, name=name)


class Table(nn.Module):
    """Rows of a table by index, cast after the look-up: casting the whole table would cost more."""

    rows: int
    features: int
    options: Options

    @nn.compact
    def __call__(self, indices: jax.Array) -> jax.Array:
        shape = (self.rows, self.features)
        table = self.param("embedding", nn.initializers.zeros, shape, self.options.param_dtype)
        return jnp.take(table, indices, axis=0).astype(self.options.dtype)


class Embeddings(nn.Module):
    """Token + position (+ token type) rows, LayerNorm, dropout, projection where sizes differ."""

    architecture: Architecture
    options: Options

    @nn.compact
    def __call__(self, batch: dict[str, jax.Array], key: jax.Array | None):
        """The first hidden state (B, S, H), and what each layer gets besides the hidden state."""
        a, options = self.architecture, self.options
        ids = batch["input_ids"]
        x = split_look_up(self.table(a.vocab_size, "token"), ids)
        if a.position_table:
            x += self.table(a.max_positions, "position")(self.positions(ids))
        if a.type_vocab_size:
            types = batch.get("token_type_ids", jnp.zeros_like(ids))
            x += self.table(a.type_vocab_size, "token_type")(types)
        x = self.blank(layer_norm("norm", a, options)(x), batch)
        x = dropout(x, a.dropout.embedding, key)
        if a.project_embeddings:
            x = dense(a.hidden_size, "projection", options)(x)
        return x, self.context(batch)

    def blank(self, x: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        """What becomes of padding: here nothing, it is masked in every layer."""
        return x

    def context(self, batch: dict[str, jax.Array]) -> Any:
        """Additive attention scores (B, 1, 1, S): 0 where attended, else the lowest number.

        Finite, so that a row of padding alone gives a uniform average and never NaN.
        """
        lowest = float(jnp.finfo(self.options.dtype).min)
        mask = batch["attention_mask"][:, None, None, :]
        return jnp.where(mask > 0, 0.0, lowest).astype(self.options.param_dtype)

    def table(self, rows: int, name: str) -> Table:
        return Table(rows, self.architecture.embedding_size, self.options, name=name)

    def positions(self, ids: jax.Array) -> jax.Array:
        """0, 1, 2, ...; or, where the family counts real tokens alone, pad + 1, pad + 2, ..."""
        a = self.architecture
        if not a.positions_skip_padding:
            return jnp.arange(ids.shape[1])[None, :]
        real = (ids != a.pad_token_id).astype(ids.dtype)
        return jnp.cumsum(real, axis=1, dtype=ids.dtype) * real + a.pad_token_id


def attend(query, key, value, bias, rate: float, dropout_key, options: Options) -> jax.Array:
    """Softmax attention over (B, S, heads, size) arrays with additive scores `bias`."""
    draws = dropout_key is not None and rate > 0
    if options.attention == "fused" and not draws:
        return jax.nn.dot_product_attention(query, key, value, bias=bias.astype(query.dtype))
    # Heads moved up before the products, not by them: a quarter less time on a CPU.
    query, key, value = (jnp.moveaxis(x, 2, 1) for x in (query, key, value))
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=bias.dtype)
    shares = softmax(scores * query.shape[-1] ** -0.5 + bias)
    shares = dropout(shares.astype(value.dtype), rate, dropout_key)
    return jnp.moveaxis(jnp.einsum("bhqk,bhkd->bhqd", shares, value), 1, 2)


class Block(nn.Module):
    """A transformer layer with LayerNorm after each residual sum (Vaswani et al., 2017).

    `layer` is its number, for families whose layers differ.
    """

    architecture: Architecture
    options: Options
    layer: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, context: Any, key: jax.Array | None) -> jax.Array:
        keys = split(key, 4)
        x = self.join(x, self.attention(x, context, keys[0]), "attention", keys[1])
        return self.feed_forward(x, keys[2], keys[3])

    def join(self, x: jax.Array, found: jax.Array, name: str, key) -> jax.Array:
        """Adds what attention found, (B, S, heads, size), to the state."""
        a, options = self.architecture, self.options
        out = dense(a.hidden_size, f"{name}_output", options)(found.reshape(x.shape))
        out = dropout(out, a.dropout.attention_output, key)
        return layer_norm(f"{name}_norm", a, options)(x + out)

    def feed_forward(self, x: jax.Array, inner_key, key) -> jax.Array:
        a, options = self.architecture, self.options
        out = dense(a.intermediate_size, "feed_forward_in", options)(x)
        out = dropout(ACTIVATIONS[a.activation](out), a.dropout.activation, inner_key)
        out = dense(a.hidden_size, "feed_forward_out", options)(out)
        out = dropout(out, a.dropout.feed_forward, key)
        return layer_norm("feed_forward_norm", a, options)(x + out)

    def attention(self, x: jax.Array, context: Any, key: jax.Array | None) -> jax.Array:
        """(B, S, heads, size) from a hidden state; `context` is the additive scores."""
        query, key_, value = (self.heads(name)(x) for name in ("query", "key", "value"))
        return attend(
            query, key_, value, context, self.architecture.dropout.attention, key, self.options
        )

    def heads(self, name: str, use_bias: bool = True) -> Callable[[jax.Array], jax.Array]:
        """The linear layer of that name, its output split into heads."""
        a = self.architecture
        linear = dense(a.hidden_size, name, self.options, use_bias=use_bias)
        return lambda x: linear(x).reshape(*x.shape[:-1], a.num_heads, -1)
