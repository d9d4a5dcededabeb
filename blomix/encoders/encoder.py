"""`Encoder`: a pretrained text encoder with a linear head, as pure functions of its weights."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from blomix.encoders import export, names, sentence
from blomix.encoders.architecture import Architecture
from blomix.encoders.checkpoint import WEIGHTS, Checkpoint, open_checkpoint
from blomix.encoders.configuration import ConfigReader, read_config, read_json, tokenizer_size
from blomix.encoders.families import family_of
from blomix.encoders.family import Family
from blomix.encoders.labels import Labels, stored_names
from blomix.encoders.loading import add_tokens, head_size, load
from blomix.encoders.model import Model, Params
from blomix.encoders.options import Options
from blomix.encoders.source import Source, locate
from blomix.errors import InputError

if TYPE_CHECKING:
    from blomix.data import Examples

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A text encoder: `logits = encoder.apply(encoder.params, batch)`.

    `params` is a nested dict of arrays, the same names in every family: `embeddings`, `layers`
    (`"0"`, `"1"`, ...; or one stacked layer), `pooler` where the pooling has one, and `head`.
    Kernels are (in, out). `config` is the checkpoint's config.json, `architecture` the same in
    uniform names. `kept` are tensors that this model does not use and its export owes to torch,
    `new` the parts that its checkpoint lacked, which were drawn from a seed.
    """

    params: Params
    config: dict[str, Any]
    model: Model
    family: Family
    labels: Labels
    source: Source | None = None
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    new: frozenset[str] = frozenset()

    @classmethod
    def from_pretrained(
        cls,
        path_or_id: str | Path,
        num_labels: int | None = None,
        *,
        regression: bool | None = None,
        label_names: Sequence[str] | None = None,
        pooling: str = "auto",
        seed: int = 0,
        dtype: str = "float32",
        remat: bool = False,
        attention: str = "plain",
        scan_layers: bool = False,
        train_embeddings: bool = True,
        dropout: float | Mapping[str, float] | None = None,
        revision: str | None = None,
    ) -> "Encoder":
        """An encoder from a Hugging Face directory (no network) or hub id, safetensors alone.

        - `num_labels`: None takes the checkpoint's own head where it has one, otherwise 2 (1 for
          regression). A head that does not fit is replaced by a new one drawn from `seed`, and a
          log line says so.
        - `pooling`: `"pooler"` is the family's own classification head, `"cls"` the first token,
          `"mean"` the mean over tokens; `"auto"` is the family's own unless the directory is a
          sentence-transformers one, which says its pooling. Its Normalize module is left out
          (see `blomix.encoders.sentence`).
        - a tokenizer larger than the embedding table gets new rows, drawn from `seed`.
        - `dropout`: None keeps the checkpoint's rates; one rate for every place the family has, or
          a mapping from place (see `blomix.encoders.options.Dropout`) to rate.
        - the other options: see `blomix.encoders.options.Options`.

        Raises:
            InputError: no such directory or hub id, weights missing, damaged or of another shape,
                a config that makes no sense, a family that is not supported.
        """
        source = locate(path_or_id, revision)
        where = source.directory / "config.json"
        config = read_json(where)
        family = family_of(config, str(where))
        modules = sentence.read_modules(source.directory)
        pooling = sentence.choose_pooling(pooling, modules, source.name)
        checkpoint = open_checkpoint(source.directory)
        dense = Checkpoint([modules.dense / WEIGHTS]) if modules.dense else None
        own = head_size(family, checkpoint, dense, pooling)
        labels = Labels.choose(num_labels, label_names, regression, config, own)
        options = Options(dtype, remat, attention, scan_layers, train_embeddings)
        model = _model(config, str(where), family, options, pooling, labels.number, dropout)
        params, new = load(model, family, checkpoint, dense, seed)
        if label_names is not None and labels.number == own:
            params = _in_order(params, stored_names(config, labels.number), labels.names)
        size = tokenizer_size(source.directory)
        if size > model.architecture.vocab_size:
            params = add_tokens(params, model, size, seed)
            model = replace(model, architecture=replace(model.architecture, vocab_size=size))
            config = {**config, "vocab_size": size}
        kept = _unused_pooler(model, family, checkpoint)
        return cls(params, config, model, family, labels, source, kept, new)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any] | str | Path,
        num_labels: int | None = None,
        *,
        regression: bool = False,
        label_names: Sequence[str] | None = None,
        pooling: str = "pooler",
        seed: int = 0,
        dtype: str = "float32",
        remat: bool = False,
        attention: str = "plain",
        scan_layers: bool = False,
        train_embeddings: bool = True,
        dropout: float | Mapping[str, float] | None = None,
        abstract: bool = False,
    ) -> "Encoder":
        """An encoder with random weights, from a config dictionary, a config.json or its directory.

        `abstract=True` allocates nothing: `params` holds `jax.ShapeDtypeStruct`s.
        """
        config, where = read_config(config)
        family = family_of(config, where)
        pooling = sentence.choose_pooling(pooling, sentence.SentenceModules(), where)
        labels = Labels.choose(num_labels, label_names, regression, config, None)
        options = Options(dtype, remat, attention, scan_layers, train_embeddings)
        model = _model(config, where, family, options, pooling, labels.number, dropout)
        key = jax.random.key(seed)
        params = jax.eval_shape(model.init, key) if abstract else model.init(key)
        return cls(params, config, model, family, labels)

    @classmethod
    def abstract(cls, config: Mapping[str, Any] | str | Path, num_labels=None, **options):
        """`from_config` without allocating: for plans and shapes."""
        return cls.from_config(config, num_labels, **options, abstract=True)

    # ---- what it computes ----

    def apply(self, params: Params, batch: Mapping[str, Any], key=None) -> jax.Array:
        """Logits (B, num_labels) in float32. Dropout is drawn from `key`, and off without one.

        `batch`: `input_ids` (B, S), `attention_mask` (ones where absent), `token_type_ids` (zeros
        where absent, ignored by families without them); other entries are ignored.
        """
        return self.model.logits(params, batch, key)

    def pooled(self, params: Params, batch: Mapping[str, Any], key=None) -> jax.Array:
        """The input (B, hidden) of the last linear layer."""
        return self.model.pooled(params, batch, key)

    def hidden_states(self, params: Params, batch: Mapping[str, Any]) -> tuple[jax.Array, ...]:
        """The embeddings and each layer's output, (B, S, hidden) each, without dropout."""
        return self.model.hidden_states(params, batch)

    def with_head(self, params: Params, weights: Any, bias: Any) -> Params:
        """`params` with another last layer: `weights` (hidden, num_labels), `bias` (num_labels)."""
        old = params["head"]
        new = {"kernel": jnp.asarray(weights), "bias": jnp.asarray(bias)}
        for name, leaf in new.items():
            if leaf.shape != old[name].shape:
                raise InputError(
                    f"head {name}: expected shape {old[name].shape}, found {leaf.shape}"
                )
            new[name] = leaf.astype(old[name].dtype)
        return {**params, "head": new}

    # ---- what it is ----

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture

    @property
    def pooling(self) -> str:
        """`pooler`, `cls` or `mean`."""
        return self.model.pooling

    @property
    def num_labels(self) -> int:
        return self.labels.number

    @property
    def label_names(self) -> tuple[str, ...] | None:
        return self.labels.names

    @property
    def regression(self) -> bool:
        return self.labels.regression

    @property
    def commit(self) -> str | None:
        """The hub's commit the weights came from, None for a local directory."""
        return self.source.commit if self.source else None

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's fast tokenizer (needs `transformers`, loaded on first use)."""
        if self.source is None:
            raise InputError("tokenizer: this encoder has random weights and no directory")
        from transformers import AutoTokenizer

        try:
            # Left to its default, code that the directory brings would be asked about on a console.
            tokenizer = AutoTokenizer.from_pretrained(
                self.source.directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers and its parsers raise nearly anything here
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(f"{self.source.name}: no usable tokenizer: {reason}") from error
        longest = tokenizer.model_max_length
        if not isinstance(longest, int | float) or tokenizer.pad_token is None:
            raise InputError(
                f"{self.source.name}: no usable tokenizer: expected a number as model_max_length "
                f"and a pad_token, found {longest!r} and {tokenizer.pad_token!r}"
            )
        return tokenizer

    def encode(self, examples: "Examples", max_length: int, multiple: int = 16) -> dict[str, Any]:
        """Token arrays of examples for `apply`, see `blomix.data.encode`.

        Raises:
            InputError: a length that the model has no positions for; a tokenizer whose ids are not
                those of the model.
        """
        from blomix.data import encode

        positions = self.architecture.longest
        arrays = encode(examples, self.tokenizer, max_length, multiple, positions)
        self.model.check(arrays)
        return arrays

    def check_length(self, max_length: int) -> None:
        """Raises InputError unless texts can be cut at `max_length` tokens."""
        from blomix.data.batches import check_length

        check_length(self.tokenizer, max_length, self.architecture.longest)

    def save_pretrained(
        self,
        directory: str | Path,
        params: Params | None = None,
        card: str | None = None,
        max_length: int | None = None,
    ) -> None:
        """Writes a new directory that torch loads, and `from_pretrained` too.

        With the family's pooler: config.json, model.safetensors, the tokenizer's files and
        README.md (`card`, or a minimal one), for `AutoModelForSequenceClassification`. Otherwise
        a sentence-transformers directory: transformer, pooling, and a dense layer whose output
        is the logits; it cuts texts at `max_length` tokens, or where the loaded one did.

        Raises:
            InputError: the directory is not new or empty, or cannot be written.
        """
        params = self.params if params is None else params
        export.save(self, params, Path(directory), card, max_length)

    # ---- what its leaves are ----

    def is_mixed(self, path: Sequence[Any], leaf: Any = None) -> bool:
        """Query, key, value, attention output, both feed-forward matrices, a pretrained pooler."""
        return names.is_matrix(path) and not self.is_head(path)

    def is_decayed(self, path: Sequence[Any], leaf: Any = None) -> bool:
        """Everything but biases and LayerNorm, and tables that are not trained."""
        table = names.steps(path)[0].endswith("embeddings")
        return names.is_decayed(path) and (self.model.options.train_embeddings or not table)

    def is_head(self, path: Sequence[Any], leaf: Any = None) -> bool:
        """The last layer, and a pooler that is no part of pretraining (RoBERTa's, or that of a
        BERT whose checkpoint has none)."""
        part = names.steps(path)[0]
        pretrained = self.family.pretrained_pooler and part not in self.new
        return part == "head" or ("pooler" in part and not pretrained)

    def layer_of(self, path: Sequence[Any]) -> int | None:
        """The number of the layer, a decoder's after the encoder's; None outside and if stacked."""
        number = names.layer_of(path)
        decoder = names.steps(path)[0] == "decoder_layers"
        return number + self.architecture.num_layers if number is not None and decoder else number

    def by_layer(self, leaves: Mapping[str, Any]) -> dict[str, Any]:
        """Leaves by their joined path, each layer's own where they are stacked."""
        return names.by_layer(leaves)

    def matrix_of(self, path: Sequence[Any]) -> str:
        """A plain name of the leaf's module: "query", "attention output", "feed-forward in"."""
        return names.matrix_of(path)


def _model(config, where, family: Family, options, pooling, number, dropout) -> Model:
    if options.dtype == "float64" and jax.dtypes.canonicalize_dtype("float64") != np.float64:
        raise InputError(
            'dtype: float64 needs jax.config.update("jax_enable_x64", True) before it; without it '
            "JAX computes in float32"
        )
    architecture = family.architecture(ConfigReader(config, where))
    architecture = replace(architecture, dropout=architecture.dropout.override(dropout))
    modules = (family.embeddings, family.block, family.uniform_layers)
    return family.model(architecture, options, pooling, number, *modules)


def _in_order(params: Params, stored: tuple[str, ...] | None, names: tuple[str, ...] | None):
    """A loaded head with its outputs in the order of `names`, where it holds the same names; where
    it holds others, they are taken for these in turn, and a line says so."""
    if stored is None or names is None or stored == names:
        return params
    if set(stored) != set(names):
        logger.warning(
            "head: the checkpoint's own, for %s: its outputs are taken for %s",
            ", ".join(map(repr, stored)),
            ", ".join(map(repr, names)),
        )
        return params
    order = jnp.array([stored.index(name) for name in names])
    head = {name: leaf[..., order] for name, leaf in params["head"].items()}
    return {**params, "head": head}


def _unused_pooler(model: Model, family: Family, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The pooler that the chosen pooling passes by: torch's bare encoder still has it."""
    if model.pooling == "pooler" or family.keys["pooler"].startswith("pooler."):
        return {}
    bare = {name.removeprefix(family.prefix): name for name in checkpoint.names}
    return {
        own: checkpoint.read(name).astype(np.float32)
        for own, name in bare.items()
        if own.startswith("pooler.")
    }
