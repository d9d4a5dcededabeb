"""How many outputs a head has, and what they are called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blomix.errors import InputError


@dataclass(frozen=True)
class Labels:
    """`number` outputs; `names` of classes where known; `regression` means one real number."""

    number: int
    names: tuple[str, ...] | None = None
    regression: bool = False

    @classmethod
    def choose(
        cls,
        number: int | None,
        names: Sequence[str] | None,
        regression: bool | None,
        config: dict[str, Any],
        own: int | None,
    ) -> "Labels":
        """What the user asks for; where that is open, the checkpoint's own head of `own` outputs.

        Raises:
            InputError: the choices contradict each other.
        """
        if names is not None:
            names = tuple(str(name) for name in names)
            if len(set(names)) < len(names):
                raise InputError(f"label_names: expected distinct names, found {list(names)}")
            if number not in (None, len(names)):
                raise InputError(
                    f"num_labels: expected {len(names)}, the number of label_names, found {number}"
                )
            number = len(names)
        if number is not None and number < 1:
            raise InputError(f"num_labels: expected at least 1, found {number}")
        if number is None:
            number = 1 if regression else own or 2
        regression = number == 1 if regression is None else regression
        if number == 1 and not regression:
            raise InputError(
                "num_labels: expected at least 2 classes, found 1 (or regression=True)"
            )
        if regression and (number != 1 or names is not None):
            raise InputError(
                f"regression: expected num_labels 1 and no label_names, found {number} labels"
            )
        if names is None and number == own:
            names = stored_names(config, number)
        return cls(number, None if regression else names, bool(regression))

    def entries(self) -> dict[str, Any]:
        """The entries of config.json that say the same."""
        names = self.names or tuple(f"LABEL_{i}" for i in range(self.number))
        kind = "regression" if self.regression else "single_label_classification"
        return {
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            "problem_type": kind,
        }


def stored_names(config: dict[str, Any], number: int) -> tuple[str, ...] | None:
    """The names in `id2label`, None where they are absent or only placeholders."""
    stored = config.get("id2label")
    if not isinstance(stored, dict) or set(stored) != {str(i) for i in range(number)}:
        return None
    names = tuple(str(stored[str(i)]) for i in range(number))
    placeholders = tuple(f"LABEL_{i}" for i in range(number))
    return None if names == placeholders or len(set(names)) < number else names
