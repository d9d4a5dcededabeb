"""Which leaves belong to which layer."""

from typing import TYPE_CHECKING

from blomix._trees import joined
from blomix.errors import InputError
from blomix.recipe.leaves import Leaves

if TYPE_CHECKING:
    from blomix.encoders import Encoder


def depth_of(encoder: "Encoder", path) -> int:
    """0 for embeddings, 1, 2, ... for layers (a decoder's after the encoder's), one more than the
    last layer for what lies above."""
    part = joined(path).split("/")[0]
    if part == "embeddings":
        return 0
    if part == "decoder_embeddings":  # with the layer below the decoder's first
        return encoder.architecture.num_layers
    if not in_layers(path):
        return number_of_layers(encoder) + 1
    layer = encoder.layer_of(path)
    if layer is None:
        raise InputError("expected an encoder with a leaf a layer; load it without scan_layers")
    return layer + 1


def in_layers(path) -> bool:
    """Whether the leaf belongs to a layer, stacked or not."""
    return joined(path).split("/")[0] in ("layers", "decoder_layers")


def number_of_layers(encoder: "Encoder") -> int:
    stacks = encoder.architecture, getattr(encoder.architecture, "decoder", None)
    return sum(len(set(stack.layer_of_step)) for stack in stacks if stack is not None)


def above(encoder: "Encoder", layers: int) -> Leaves:
    """The leaves above the first `layers` layers."""
    return Leaves.of(encoder.params, lambda path, leaf: depth_of(encoder, path) > max(layers, 0))
