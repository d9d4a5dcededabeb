"""The shape of an encoder, in one vocabulary for every family."""

from dataclasses import dataclass, field

from blomix.encoders.options import Dropout


@dataclass(frozen=True)
class Architecture:
    """What a family reads from its `config.json`: sizes in units, rates in [0, 1).

    `layer_of_step[i]` is the layer whose weights step i of the stack uses: `0, 1, 2, ...` unless
    layers are shared. `position_table` is False where positions enter in the layers alone.
    `project_embeddings` puts a linear layer after the embeddings. `positions_skip_padding` counts
    real tokens alone, from `pad_token_id + 1` on. `pooler_input` is `"cls"`, `"mean"` or `"end"`.
    `final_norm` and `pooler_norm` are LayerNorms after the last layer and after the pooler.
    `head_scale` and `pooler_scale` are the standard deviations of a new head and pooler where they
    are not `initializer_range`.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    embedding_size: int
    type_vocab_size: int = 0
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0
    position_table: bool = True
    positions_skip_padding: bool = False
    project_embeddings: bool = False
    pooler_input: str = "cls"
    pooler_activation: str = "tanh"
    pooler_bias: bool = True
    pooler_norm: bool = False
    final_norm: bool = False
    norm_bias: bool = True
    head_scale: float | None = None
    pooler_scale: float | None = None
    dropout: Dropout = field(default_factory=Dropout)
    layer_of_step: tuple[int, ...] = ()

    def __post_init__(self):
        if not self.layer_of_step:
            object.__setattr__(self, "layer_of_step", tuple(range(self.num_layers)))

    @property
    def shared_layers(self) -> bool:
        """Whether some layer's weights are used more than once."""
        return len(set(self.layer_of_step)) < len(self.layer_of_step)

    @property
    def longest(self) -> int:
        """The longest input, in tokens (padding-aware positions start after the padding index)."""
        skipped = self.pad_token_id + 1 if self.positions_skip_padding else 0
        return self.max_positions - skipped
