"""Meshes: the same numbers as one device, and only the collectives that splitting takes."""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest

from blomix.errors import InputError
from blomix.parallel import rules
from blomix.parallel.mesh import OnMesh, Shape
from tests.parallel.eight import CONFIG, WIDTH

HIDDEN = CONFIG["hidden_size"]
MESHES = ("data=8", "model=4", "data=2,model=4", "ensemble=4", "ensemble=2,data=2,model=2")
WEIGHTS = (f"{HIDDEN},{HIDDEN}", f"{HIDDEN},{WIDTH}", f"{WIDTH},{HIDDEN}")


EIGHT = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


def eight(what: str, *arguments: str) -> dict:
    command = [sys.executable, "-m", "tests.parallel.eight", what, *arguments]
    done = subprocess.run(command, env=EIGHT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def lanes():
    return eight("results", "", *MESHES)


@pytest.mark.parametrize("mesh", MESHES)
def test_a_mesh_gives_the_numbers_of_one_device(lanes, mesh):
    np.testing.assert_allclose(lanes[mesh], lanes[""], rtol=1e-5, atol=1e-5)
    assert not np.allclose(lanes[mesh][0], lanes[mesh][1], atol=1e-3)  # each lane its own


@pytest.mark.parametrize("meshes", ["data=4->model=2", "model=8->"])
def test_a_run_goes_on_on_another_number_of_devices(lanes, meshes):
    np.testing.assert_allclose(eight("resumed", meshes)[meshes], lanes[""], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def collectives():
    return eight("collectives", "model=4")["model=4"]


def gathers(collectives: dict, step: str) -> dict[str, Counter]:
    """How often a whole matrix of a layer is gathered, by computation and shape."""
    found = defaultdict(Counter)
    for computation, kind, shape, times in collectives[step]:
        if kind == "all-gather" and shape in WEIGHTS:
            found[computation][shape] += times
    return found


# A layer's matrices: query, key, value, attention output, then feed-forward.
ONCE = Counter(dict(zip(WEIGHTS, (4, 1, 1), strict=True)))
TWO_TENSORS = ONCE + ONCE


def test_a_plain_step_gathers_each_matrix_forward_and_backward(collectives):
    passes = list(gathers(collectives, "plain").values())
    assert passes.count(ONCE) == 2
    # Elsewhere only the pooler, which has the shape of the first.
    assert sum(passes, Counter()) - TWO_TENSORS <= Counter({WEIGHTS[0]: 2})


def test_the_search_gathers_no_matrix_twice_for_the_product_with_the_hessian(collectives):
    """Inner and outer gradient gather the mixed weights as a plain step does. Forward and backward,
    the product with the Hessian gathers them and the direction, each once, however many products
    of matrices they are in. Task and pretrained weights are mixed where they lie."""
    passes = list(gathers(collectives, "search").values())
    assert passes.count(ONCE) == 2 * 2
    assert passes.count(TWO_TENSORS) == 2
    rest = sum(passes, Counter()) - sum([ONCE] * 8, Counter())
    assert rest <= Counter({WEIGHTS[0]: 4 * 2})


def test_the_search_needs_no_other_collectives_than_a_plain_step(collectives):
    kinds = {step: {kind for _, kind, _, _ in rows} for step, rows in collectives.items()}
    assert kinds["search"] <= kinds["plain"]


@pytest.mark.parametrize("step", ["plain", "search"])
def test_neither_the_table_nor_a_stack_of_layers_is_ever_whole(collectives, step):
    table = f"{CONFIG['vocab_size']},{HIDDEN}"
    stacks = [f"{CONFIG['num_hidden_layers']},{shape}" for shape in WEIGHTS]
    gathered = {shape for _, kind, shape, _ in collectives[step] if kind == "all-gather"}
    assert not gathered & {table, *stacks}


def test_rows_move_rather_than_the_table(collectives):
    assert any(kind == "all-to-all" for _, kind, _, _ in collectives["plain"])


def test_nor_is_the_table_moved_for_a_decoder():
    """XLA warns where it has to make every row whole on every device."""
    command = [sys.executable, "-m", "tests.parallel.eight", "decoder", "data=2,model=2"]
    done = subprocess.run(command, env=EIGHT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["data=2,model=2"] > 0
    assert "full rematerialization" not in done.stderr


@pytest.mark.parametrize(
    ("path", "shape", "stacked", "expected"),
    [
        (("layers", "query", "kernel"), (2, 8, 8), False, (None, None, "model")),
        (("layers", "attention_output", "kernel"), (2, 8, 8), False, (None, "model", None)),
        (("inner_state", "mu", "0", "query", "kernel"), (8, 8), False, (None, "model")),
        (("alpha", "query", "kernel", "row"), (8,), False, ()),
        (("alpha", "query", "kernel"), (3, 8, 8), True, ("ensemble", None, "model")),
        (("embeddings", "token", "embedding"), (50, 8), False, (None, "model")),
        (("embeddings", "position", "embedding"), (16, 8), False, ()),
        (("head", "kernel"), (8, 3), False, ("model", None)),
        (("head", "kernel"), (5, 3), False, ()),
        (("query", "bias"), (3, 8), True, ("ensemble",)),
    ],
)
def test_rules(path, shape, stacked, expected):
    import jax

    keys = tuple(jax.tree_util.DictKey(name) for name in path)
    leaf = jax.ShapeDtypeStruct(shape, "float32")
    assert tuple(rules.spec("state", keys, leaf, stacked, model=4)) == expected


@pytest.mark.parametrize("text", ["data", "data=x", "rows=2", "data=0", "data=2,data=4", ""])
def test_a_mesh_that_makes_no_sense_is_refused(text):
    with pytest.raises(InputError, match="mesh"):
        Shape.parse(text)


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(InputError, match="expected 512 devices"):
        OnMesh.of(Shape(data=512))
