"""How an encoder computes, apart from its weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from blomix.errors import InputError

DTYPES = ("float32", "bfloat16", "float16", "float64")
ATTENTIONS = ("plain", "fused")
POOLINGS = ("pooler", "cls", "mean")


@dataclass(frozen=True)
class Dropout:
    """Dropout rates by place: each is the share of elements that are zeroed, in [0, 1).

    `relative` is on DeBERTa's relative embeddings, in each layer; `activation` on the inner
    features of the feed-forward, `feed_forward` on its output. `places` are those that the family
    has, whatever their rates are.
    """

    embedding: float = 0.0
    relative: float = 0.0
    attention: float = 0.0
    attention_output: float = 0.0
    activation: float = 0.0
    feed_forward: float = 0.0
    pooler_input: float = 0.0
    classifier: float = 0.0
    places: tuple[str, ...] = ()

    @classmethod
    def of(cls, **rates: float) -> "Dropout":
        """A family's rates, of all the places it has."""
        return cls(**rates, places=tuple(rates))

    def also(self, **rates: float) -> "Dropout":
        """These rates with others, some of them perhaps of further places."""
        return Dropout.of(**self.rates() | rates)

    def override(self, rates: float | Mapping[str, float] | None) -> "Dropout":
        """These rates, with one number for every place of the family, or a mapping place -> rate,
        instead."""
        if rates is None:
            return self
        if not isinstance(rates, Mapping):
            rates = dict.fromkeys(self.places, rates)
        for place, rate in rates.items():
            if place not in self.places:
                raise InputError(
                    f"dropout: expected a place of this family, {', '.join(self.places)}, found "
                    f"{place!r}"
                )
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise InputError(f"dropout: expected a rate in [0, 1), found {rate!r} ({place})")
        return self.also(**{place: float(rate) for place, rate in rates.items()})

    def rates(self) -> dict[str, float]:
        """The rate of each of the family's places."""
        return {place: getattr(self, place) for place in self.places}


@dataclass(frozen=True)
class Options:
    """Choices that change how the numbers are computed, never which numbers (up to rounding).

    - `dtype`: dtype of the activations; weights and logits are float32 (float64 under `"float64"`).
    - `remat`: recompute each layer in the backward pass (`jax.checkpoint`) to save memory.
    - `attention`: `"plain"` products, differentiable any number of times, or `"fused"`
      (`jax.nn.dot_product_attention`). Attention dropout, when drawn, takes the plain path: the
      fused kernel has none.
    - `scan_layers`: one `jax.lax.scan` over stacked layers (leading axis = layer) instead of an
      unrolled loop: quicker to compile, same numbers.
    - `train_embeddings`: False stops the gradient at the embedding tables.
    """

    dtype: str = "float32"
    remat: bool = False
    attention: str = "plain"
    scan_layers: bool = False
    train_embeddings: bool = True

    def __post_init__(self):
        for name, allowed in (("dtype", DTYPES), ("attention", ATTENTIONS)):
            found = getattr(self, name)
            if found not in allowed:
                raise InputError(f"{name}: expected one of {', '.join(allowed)}, found {found!r}")

    @property
    def param_dtype(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"


def finite(value) -> bool:
    """Whether a value read from JSON is a number, and neither NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
