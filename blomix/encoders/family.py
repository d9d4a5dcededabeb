"""What a family of encoders is: how to read its config, its modules, and its names of weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flax.linen as nn

from blomix.encoders.architecture import Architecture
from blomix.encoders.configuration import ConfigReader
from blomix.encoders.layers import Block, Embeddings
from blomix.encoders.model import Model


@dataclass(frozen=True)
class Family:
    """One entry of the registry.

    `architecture` reads a config; `embeddings`, `block` and `model` are the modules;
    `uniform_layers` is False where layers differ in more than their weights: no scan then.

    - `keys`: our module -> torch's, for the model with the family's own head; `{}` stands for the
      number of a layer, and `name#i/n` for the i-th of n equal parts of a
      tensor's rows. Loading and saving both go by it.
    - `prefix`: what torch's head model puts before the names of the bare encoder.
    - `base`, `classifier`: torch's class names, written to config.json.
    - `pretrained_pooler`: the pooler comes with pretraining (BERT); otherwise it is a part of the
      classification head, new like the rest of it (RoBERTa).
    """

    architecture: Callable[[ConfigReader], Architecture]
    keys: Mapping[str, str]
    prefix: str
    base: str
    classifier: str
    pretrained_pooler: bool
    embeddings: type[nn.Module] = Embeddings
    block: type[nn.Module] = Block
    model: type[Model] = Model
    uniform_layers: bool = True
