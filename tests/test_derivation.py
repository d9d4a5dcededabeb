"""docs/hypergradient.md names functions and files; they exist, and no equation is without one."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from blomix import BilevelProblem, BilevelState, Mixup, bilevel, hypergradient
from blomix.hypergradient import exact, unrolled

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "hypergradient.md").read_text()
QUOTED = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
# Where a name without its module may live.
HOMES = [bilevel, hypergradient, unrolled, exact]
# Arguments and options, and what is JAX's or optax's.
OTHERS = {"pretrained", "apply_updates", "custom_vjp", "jax.grad", "jax.value_and_grad", "jax.vjp"}


def resolve(dotted: str):
    """The object of an absolute name such as `blomix.mixup.Mixup.mix`."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[count:], module)
    raise AttributeError(dotted)


def has(home, dotted: str) -> bool:
    for part in dotted.split("."):
        fields = getattr(home, "__annotations__", {})
        if not hasattr(home, part) and part not in fields:
            return False
        home = getattr(home, part, None)
    return True


@pytest.mark.parametrize("name", [n for n in QUOTED if re.fullmatch(r"[\w.]+(\([^ ]*\))?", n)])
def test_names_exist(name):
    name = name.partition("(")[0]
    if name.startswith("blomix."):
        resolve(name)
    elif name.startswith("state."):
        assert has(BilevelState, name.removeprefix("state."))
    elif name not in OTHERS:
        assert any(has(home, name) for home in HOMES)


@pytest.mark.parametrize("path", [n for n in QUOTED if re.fullmatch(r"(tests|experiments)/.+", n)])
def test_files_exist(path):
    assert (ROOT / path).exists()


def test_every_equation_has_a_function():
    equations = re.findall(r"^    .*\((\d+)\)$", TEXT, re.MULTILINE)
    rows = re.findall(r"^\| \((\d+)\) \| (`blomix\.[\w.]+`(?:, `blomix\.[\w.]+`)*) \|$", TEXT, re.M)
    assert equations == [number for number, _ in rows]
    assert len(equations) == 7


def test_what_is_said_of_segments():
    assert BilevelProblem(print, Mixup(), unroll=17).gradients == pytest.approx(1 + 11 / 3 * 17)
    assert BilevelProblem(print, Mixup(), unroll=18).gradients == pytest.approx(
        1 + 11 / 3 * 18 + 16
    )
