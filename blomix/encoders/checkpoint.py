"""Reading safetensors one tensor at a time, and nothing else: pickles are refused."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from blomix.encoders.configuration import read_json
from blomix.encoders.keys import part_of
from blomix.errors import InputError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_FLOATS = ("F16", "BF16", "F32", "F64")
_OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


class Checkpoint:
    """The tensors of some safetensors files, by name.

    Names of checkpoints converted from TensorFlow (`LayerNorm.gamma`) are read as today's.
    A file is opened anew for each tensor: its mapped pages then leave memory with it.
    """

    def __init__(self, files: Iterable[Path]):
        self._found: dict[str, tuple[Path, str]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        for path in files:
            self._add(path)

    def _add(self, path: Path) -> None:
        try:
            with safe_open(path, framework="numpy") as file:
                for stored in file.keys():  # noqa: SIM118 (not a mapping)
                    name = stored
                    for old, new in _OLD_NAMES:
                        name = name.replace(old, new)
                    self._found[name] = path, stored
                    entry = file.get_slice(stored)
                    self._shapes[name] = tuple(entry.get_shape())
                    self._dtypes[name] = entry.get_dtype()
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path}: expected a whole safetensors file, found: {error}"
            ) from error

    @property
    def names(self) -> list[str]:
        return sorted(self._found)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor (or of a part, see `part_of`), None where there is none."""
        whole, _, number = part_of(name)
        shape = self._shapes.get(whole)
        if shape and shape[0] % number == 0:
            return (shape[0] // number, *shape[1:])
        return shape

    def where(self, name: str) -> str:
        return f"{self._found[part_of(name)[0]][0]}: tensor {name}"

    def read(self, name: str) -> np.ndarray:
        """A tensor, or a part of one, in its stored dtype.

        Raises:
            InputError: the tensor is not of floats, or its file changed and cannot be read.
        """
        name, part, number = part_of(name)
        path, stored = self._found[name]
        if self._dtypes[name] not in _FLOATS:
            expected = ", ".join(_FLOATS)
            raise InputError(
                f"{self.where(name)}: expected one of the dtypes {expected}, found "
                f"{self._dtypes[name]}; quantised weights are not supported"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                tensor = file.get_tensor(stored)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.where(name)}: cannot be read ({error})") from error
        return tensor if number == 1 else np.split(tensor, number)[part]


def open_checkpoint(directory: Path) -> Checkpoint:
    """The weights of a directory: `model.safetensors`, or the files that its index names.

    Raises:
        InputError: no weights, weights as pickle alone, a file that the index names is missing,
            or a file is damaged.
    """
    if (directory / WEIGHTS).is_file():
        return Checkpoint([directory / WEIGHTS])
    if (directory / INDEX).is_file():
        names = read_json(directory / INDEX).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise InputError(f"{directory / INDEX}: expected the entry 'weight_map', a mapping")
        files = sorted({str(name) for name in names.values()})
        for name in files:
            if Path(name).name != name:
                raise InputError(f"{directory / INDEX}: expected plain file names, found {name!r}")
            if not (directory / name).is_file():
                raise InputError(f"{directory}: {name} is missing, which {INDEX} names")
        return Checkpoint(directory / name for name in files)
    for name in _PICKLES:
        if (directory / name).exists():
            raise InputError(
                f"{directory}: found {name} and no {WEIGHTS}; a pickle can run code, so it is not "
                "read: convert it, e.g. with transformers' save_pretrained where it is trusted"
            )
    raise InputError(
        f"{directory}: expected weights in {WEIGHTS} or {INDEX}, found "
        "none (pickled weights, which can run code, are neither read nor downloaded)"
    )
