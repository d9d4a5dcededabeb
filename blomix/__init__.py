"""Learned weight mixup and bi-level optimisation for finetuning on few labelled texts."""

import importlib

# Public name -> the module that defines it. Loaded on first use, so that importing blomix is quick.
_PUBLIC = {
    "BilevelProblem": "blomix.bilevel",
    "BilevelState": "blomix.bilevel",
    "Encoder": "blomix.encoders",
    "InputError": "blomix.errors",
    "Mixup": "blomix.mixup",
    "Recipe": "blomix.recipe",
    "finetune": "blomix.recipe",
}

__all__ = sorted(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'blomix' has no attribute {name!r}; it has {__all__}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__():
    return __all__
