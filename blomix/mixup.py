"""What alpha is, and how the task and the pretrained weights are mixed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from blomix._trees import by_path, check_like, few, is_float, joined
from blomix.errors import InputError

PyTree = Any
Granularity = Literal["full", "rank1", "row", "column", "matrix", "layer"]
Formula = Literal["convex", "released"]
Constraint = Literal["clip", "sigmoid"]
Where = Callable[[tuple, Any], bool] | str
Initial = float | tuple[float, float] | Callable[[jax.Array, tuple[int, ...], Any], jax.Array]

# Down to the first component that ends in a number, else to `layers`, `blocks` or a kind of them,
# such as `decoder_layers`; a leaf's own name (the last component) does not count.
LAYER = r"^(?:.*?/)??[^/]*\d(?=/)|^(?:.*?/)??(?:[^/]*_)?(?:layers|blocks)(?=/)"

# Keeps the logit of an initial share finite, and its slope large enough to learn from.
_SIGMOID_MARGIN = 1e-3


@dataclass(frozen=True, init=False)
class Mixup:
    r"""Learned weight mixup: `mixed = alpha * task + (1 - alpha) * pretrained`, elementwise.

    `alpha` in [0, 1] is the share of the task weight (Somayajula et al., NAACL 2024,
    arXiv:2403.12918). The last two axes of a leaf are its matrix, (m, n); axes before them are a
    stack of matrices (scanned layers), each with an alpha of its own. A leaf of fewer axes is a
    matrix of one row. What alpha holds for a leaf of shape (*stack, m, n):

    - `"full"`: (*stack, m, n), one number a weight;
    - `"rank1"`: a mapping with `row` (*stack, m) and `column` (*stack, n), whose outer product is
      the share; with `rank = r > 1` both have a last axis of length r and the share is the mean
      of the r outer products, so that it stays in [0, 1];
    - `"row"`: (*stack, m); `"column"`: (*stack, n); `"matrix"`: (*stack);
    - `"layer"`: (*stack), shared by all mixed leaves of a layer.

    For all but `"layer"`, alpha is a pytree like the weights, with None at leaves that are not
    mixed; for `"layer"` it is a mapping from the layer's path to its number. Each array of alpha
    has the dtype of its leaf (of the widest of its layer), and `mix` takes a wider one: an alpha of
    16 bits is too coarse near 1 to follow a small outer step.

    Args:
      granularity: see above.
      formula: `"convex"`, as above; or `"released"`, as the released code has it: the share of
        the pretrained weight is the product of the complements, `(1 - row) (1 - column)^T`, so
        that the two shares do not add up to 1. The two differ for `"rank1"` only.
      where: which leaves are mixed: `where(path, leaf) -> bool` with the path as `jax.tree_util`
        gives it, or a regular expression searched for in the path joined by `/`. Default: every
        leaf with two or more axes. Leaves that are not of a float type are never mixed.
      init: what every number held by alpha starts at, in [0, 1]: a scalar; `(mean, std)` of a
        normal, clipped; or `init(key, shape, dtype) -> array`, clipped. For `"rank1"` these are
        the factors. Default: N(1, 0.005), as in the released code.
      constraint: `"clip"` clips alpha to [0, 1] after each outer update (`project`); `"sigmoid"`
        lets alpha hold free parameters, whose sigmoid is the number meant above, and starts
        them no closer than 0.001 to 0 and 1.
      rank: r, for `"rank1"`.
      layer: for `"layer"`: a regular expression; what it matches in the joined path is the
        layer's path. Default: the path down to the first component that ends in a digit, else to
        one called `layers` or `blocks`, or `decoder_layers` and the like. A leaf without a match
        is a layer of its own.

    Raises:
      InputError: an option that does not exist; from the methods, a leaf that is missing, extra
        or of the wrong shape, by its path.
    """

    granularity: Granularity
    formula: Formula
    where: Where | None
    initial: Initial
    constraint: Constraint
    rank: int
    layer: str

    # Written out because the argument `init` must not hide the method `init`.
    def __init__(
        self,
        granularity: Granularity = "rank1",
        formula: Formula = "convex",
        where: Where | None = None,
        init: Initial = (1.0, 0.005),
        constraint: Constraint = "clip",
        rank: int = 1,
        layer: str = LAYER,
    ):
        for name, value, choices in (
            ("granularity", granularity, get_args(Granularity)),
            ("formula", formula, get_args(Formula)),
            ("constraint", constraint, get_args(Constraint)),
        ):
            if value not in choices:
                raise InputError(f"Mixup: {name} should be one of {choices}, found {value!r}")
        if rank < 1 or (rank > 1 and granularity != "rank1"):
            raise InputError(
                f"Mixup: rank should be 1, or more with granularity 'rank1'; found rank {rank} "
                f"with granularity {granularity!r}"
            )
        if isinstance(init, list):  # which would make the Mixup unhashable
            init = (init[0], init[1])
        start = init[0] if isinstance(init, tuple) else init
        if not callable(start) and not 0 <= start <= 1:
            raise InputError(f"Mixup: init should start alpha in [0, 1], found {init!r}")
        # Not `self.x = x`: a frozen dataclass refuses that.
        self.__dict__.update(
            granularity=granularity,
            formula=formula,
            where=where,
            initial=init,
            constraint=constraint,
            rank=rank,
            layer=layer,
        )

    def init(self, key: jax.Array, pretrained: PyTree) -> PyTree:
        """Alpha at its start, for weights like `pretrained`."""
        shapes, treedef = jax.tree.flatten(self._layout(pretrained))
        if not shapes:
            raise InputError(
                f"Mixup: no leaf is mixed; where={self.where!r} should select at least one float "
                f"leaf of {few(by_path(pretrained))}"
            )
        keys = jax.random.split(key, len(shapes))
        return treedef.unflatten(map(self._start, keys, shapes))

    def mix(self, alpha: PyTree, task: PyTree, pretrained: PyTree) -> PyTree:
        """The weights the model runs with: a pytree like `pretrained`.

        Leaves that are not mixed are those of `task`.
        """
        check_like("task", task, pretrained)
        units = self._units(alpha, pretrained)
        weights, treedef = jax.tree.flatten(task)
        anchors = treedef.flatten_up_to(pretrained)
        return treedef.unflatten(
            w if unit is None else self._mix_leaf(unit, w, w0)
            for unit, w, w0 in zip(units, weights, anchors, strict=True)
        )

    def project(self, alpha: PyTree) -> PyTree:
        """The constraint that follows an outer update: clips to [0, 1] under `"clip"`."""
        if self.constraint == "sigmoid":
            return alpha
        return jax.tree.map(lambda a: jnp.clip(a, 0, 1), alpha)

    def alpha_of(self, alpha: PyTree, pretrained: PyTree | None = None) -> PyTree:
        """The share of the task weight: per leaf, (*stack, m, n).

        Without `pretrained`, axes along which alpha does not vary have length 1, and `"layer"`
        gives one entry a layer; with it, every share has the shape of its leaf (None where the
        leaf is not mixed).
        """
        if pretrained is None:
            return jax.tree.map(lambda unit: self._shares(unit)[0], alpha, is_leaf=self._is_factors)
        leaves, treedef = jax.tree.flatten(pretrained)
        return treedef.unflatten(
            None
            if unit is None
            else jnp.broadcast_to(self._shares(unit)[0], _matrix_shape(leaf)).reshape(
                jnp.shape(leaf)
            )
            for unit, leaf in zip(self._units(alpha, pretrained), leaves, strict=True)
        )

    def retention(self, alpha: PyTree) -> dict[str, jax.Array]:
        """The mean share of the task weight kept, (*stack), by the path of the leaf (or layer)."""
        return {
            path: jnp.mean(share, axis=(-2, -1))
            for path, share in by_path(self.alpha_of(alpha)).items()
        }

    def _is_mixed(self, path: tuple, leaf: Any) -> bool:
        if not is_float(leaf):
            return False
        if self.where is None:
            return jnp.ndim(leaf) >= 2
        if isinstance(self.where, str):
            return re.search(self.where, joined(path)) is not None
        return bool(self.where(path, leaf))

    def layer_of(self, path: str) -> str:
        """The layer, under `"layer"`, of the leaf with this joined path."""
        match = re.search(self.layer, path)
        return match.group() if match else path

    def _layout(self, pretrained: PyTree) -> PyTree:
        """Shapes and dtypes of alpha."""
        leaves, treedef = jax.tree_util.tree_flatten_with_path(pretrained)
        if self.granularity != "layer":
            return treedef.unflatten(
                self._unit_shape(leaf) if self._is_mixed(path, leaf) else None
                for path, leaf in leaves
            )
        layers: dict[str, jax.ShapeDtypeStruct] = {}
        for path, leaf in leaves:
            if not self._is_mixed(path, leaf):
                continue
            unit = self._unit_shape(leaf)
            layer = self.layer_of(joined(path))
            shared = layers.setdefault(layer, unit)
            if shared.shape != unit.shape:
                raise InputError(
                    f"Mixup: leaf {joined(path)!r} is a stack of shape {unit.shape}, but its layer "
                    f"{layer!r} one of {shared.shape}; give Mixup a `layer` expression that tells "
                    "them apart"
                )
            dtype = jnp.promote_types(shared.dtype, unit.dtype)
            layers[layer] = jax.ShapeDtypeStruct(unit.shape, dtype)
        return layers

    def _unit_shape(self, leaf: Any) -> Any:
        *stack, m, n = _matrix_shape(leaf)
        shape = {
            "full": jnp.shape(leaf),
            "row": (*stack, m),
            "column": (*stack, n),
            "matrix": (*stack,),
            "layer": (*stack,),
        }
        dtype = jnp.result_type(leaf)
        if self.granularity != "rank1":
            return jax.ShapeDtypeStruct(shape[self.granularity], dtype)
        ranks = () if self.rank == 1 else (self.rank,)
        return {
            name: jax.ShapeDtypeStruct((*shape[name], *ranks), dtype) for name in ("row", "column")
        }

    def _start(self, key: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
        if callable(self.initial):
            value = jnp.asarray(self.initial(key, like.shape, like.dtype), like.dtype)
            if value.shape != like.shape:
                raise InputError(
                    f"Mixup: init should return an array of shape {like.shape}, found {value.shape}"
                )
        elif isinstance(self.initial, tuple):
            mean, std = self.initial
            value = mean + std * jax.random.normal(key, like.shape, like.dtype)
        else:
            value = jnp.full(like.shape, self.initial, like.dtype)
        if self.constraint == "clip":
            return jnp.clip(value, 0, 1)
        return jax.scipy.special.logit(jnp.clip(value, _SIGMOID_MARGIN, 1 - _SIGMOID_MARGIN))

    def _units(self, alpha: PyTree, pretrained: PyTree) -> list:
        """What alpha holds for each leaf of `pretrained`; None where it is not mixed."""
        check_like("alpha", alpha, self._layout(pretrained))
        leaves, treedef = jax.tree_util.tree_flatten_with_path(pretrained)
        if self.granularity != "layer":
            return treedef.flatten_up_to(alpha)
        return [
            alpha[self.layer_of(joined(path))] if self._is_mixed(path, leaf) else None
            for path, leaf in leaves
        ]

    def _shares(self, unit: Any) -> tuple[jax.Array, jax.Array]:
        """Shares of the task and of the pretrained weight, as matrices (size 1 where constant)."""
        if self.constraint == "sigmoid":
            unit = jax.tree.map(jax.nn.sigmoid, unit)
        if self.granularity == "rank1":
            row, column = unit["row"], unit["column"]
            share = self._outer(row, column)
            if self.formula == "released":
                return share, self._outer(1 - row, 1 - column)
            return share, 1 - share
        if self.granularity == "full":
            share = jnp.reshape(unit, _matrix_shape(unit))
        else:
            missing = {"row": (-1,), "column": (-2,), "matrix": (-2, -1), "layer": (-2, -1)}
            share = jnp.expand_dims(unit, missing[self.granularity])
        return share, 1 - share

    def _is_factors(self, node: Any) -> bool:
        return (
            self.granularity == "rank1"
            and isinstance(node, dict)
            and node.keys() == {"row", "column"}
            and all(hasattr(factor, "shape") for factor in node.values())
        )

    def _outer(self, row: jax.Array, column: jax.Array) -> jax.Array:
        if self.rank == 1:
            return jnp.einsum("...m,...n->...mn", row, column, precision="highest")
        product = jnp.einsum("...mr,...nr->...mn", row, column, precision="highest")
        return product / self.rank

    def _mix_leaf(self, unit: Any, task: jax.Array, pretrained: jax.Array) -> jax.Array:
        shape = _matrix_shape(task)
        w, w0 = jnp.reshape(task, shape), jnp.reshape(pretrained, shape)
        share, rest = self._shares(unit)
        # The second form gives exactly the pretrained weight where the task weight equals it.
        mixed = share * w + rest * w0 if self.formula == "released" else w0 + share * (w - w0)
        return jnp.reshape(mixed, jnp.shape(task)).astype(jnp.result_type(task))


def _matrix_shape(leaf: Any) -> tuple[int, ...]:
    shape = jnp.shape(leaf)
    return (1,) * (2 - len(shape)) + shape
