"""The flags of `blomix finetune` that say how it is spread."""

import importlib
import tomllib
from types import SimpleNamespace
from typing import Any

import pytest
from jax.errors import JaxRuntimeError

from blomix.baselines import METHODS
from blomix.errors import InputError
from blomix.recipe import Recipe
from blomix.recipe.preparation import check_parts
from blomix.recipe.program import ONE_DEVICE
from tests.conftest import result_of

pytestmark = pytest.mark.usefixtures("quick_to_compile")

SHORT = ("--batch-size", "8", "--epochs", "1", "--max-length", "16", "--json")


@pytest.fixture
def finetune(blomix, tiny_model, reviews, tmp_path):
    def call(name, *arguments):
        run = tmp_path / name
        data = ("--train", reviews["train"], "--validation", reviews["validation"])
        code, out, err = blomix(
            "finetune", "--model", tiny_model, *data, "--run-dir", run, *SHORT, *arguments
        )
        return code, run, (result_of(out) if code == 0 else err)

    return call


def test_a_mesh_of_one_device_changes_no_number(finetune):
    """With early stopping, whose phases hand whole states, keys too, from one to the next."""
    plain = ("--method", "plain", "--set", "patience=1")
    code, without, expected = finetune("without", *plain)
    assert code == 0, expected
    code, run, result = finetune("with", *plain, "--mesh", "data=1")
    assert code == 0, result
    assert result["score"] == expected["score"]
    assert (run / "export/model.safetensors").stat().st_size > 0
    settings = [tomllib.loads((r / "config.toml").read_text()) for r in (without, run)]
    assert settings[0] == settings[1]  # another mesh may go on with the run


def test_a_batch_that_the_mesh_cannot_split_is_refused(finetune):
    code, _, err = finetune("run", "--method", "plain", "--mesh", "data=512")
    assert code == 2
    assert "expected 512 devices" in err


def test_folds_that_the_mesh_cannot_split_are_refused():
    check_parts(Recipe(folds=4), rows=1, lanes=2)
    check_parts(METHODS["plain"](), rows=1, lanes=2)  # one lane, which each part repeats
    with pytest.raises(InputError, match="3 folds or finishes cannot be split evenly over 2"):
        check_parts(Recipe(folds=3), rows=1, lanes=2)


def test_folds_advance_together_where_they_fit(finetune, monkeypatch):
    search = ("--set", "folds=2", "--set", "search_epochs=0.1", "--epochs", "0.1")
    search += ("--set", "hypergradient=first_order")  # it compiles fastest
    module = importlib.import_module("blomix.recipe.finetune")
    monkeypatch.setattr(module, "room_together", lambda: 10**12)
    _, run, result = finetune("roomy", *search)
    assert tomllib.loads((run / "config.toml").read_text())["resolved"]["together"] is True
    monkeypatch.setattr(module, "room_together", lambda: 1)
    code, _, again = finetune("roomy", *search)  # a run keeps to what it began with
    assert code == 0
    assert again == result
    _, narrow, _ = finetune("narrow", *search)
    assert tomllib.loads((narrow / "config.toml").read_text())["resolved"]["together"] is False


def test_folds_whose_step_the_compiler_refuses_advance_one_by_one(monkeypatch):
    """A TPU's compiler raises where a step does not fit, in place of telling what it takes."""
    module = importlib.import_module("blomix.recipe.finetune")
    search = SimpleNamespace(lanes=[None] * 3)
    recipe: Any = SimpleNamespace(lanes=3, fit=lambda job: iter([search]))

    def refuse(error):
        def build(phase, together, place):
            raise error

        monkeypatch.setattr(module, "first_program", build)

    monkeypatch.setattr(module, "room_together", lambda: 10**12)
    refuse(JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm"))
    assert not module.folds_fit(None, recipe, ONE_DEVICE)
    refuse(JaxRuntimeError("INTERNAL: something else"))
    with pytest.raises(JaxRuntimeError, match="something else"):
        module.folds_fit(None, recipe, ONE_DEVICE)


@pytest.mark.parametrize("phases", [[], [SimpleNamespace(lanes=[None])]])
def test_finishes_are_not_judged_by_a_phase_of_fewer_lanes(phases, monkeypatch):
    module = importlib.import_module("blomix.recipe.finetune")
    monkeypatch.setattr(module, "room_together", lambda: 10**12)
    monkeypatch.setattr(module, "first_program", lambda *_: SimpleNamespace(bytes=1))
    method: Any = SimpleNamespace(lanes=8, fit=lambda job: iter(phases))
    assert not module.folds_fit(None, method, ONE_DEVICE)


def test_what_an_attempt_without_a_step_chose_is_not_kept_to(tmp_path):
    module = importlib.import_module("blomix.recipe.finetune")
    (tmp_path / "config.toml").write_text("[resolved]\ntogether = true\n")
    (tmp_path / "metrics.jsonl").touch()
    assert module.recorded_together(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert module.recorded_together(tmp_path) is True


def test_a_mesh_that_splits_folds_asks_for_them_together():
    """By itself a CPU advances them one by one, and that part of the mesh would do nothing."""
    module = importlib.import_module("blomix.recipe.finetune")
    split: Any = SimpleNamespace(lanes=5)
    nothing: Any = None  # no program is compiled to decide it
    assert module.folds_fit(nothing, Recipe(), split)
    assert not module.folds_fit(nothing, Recipe(), ONE_DEVICE)
    assert not module.folds_fit(nothing, METHODS["plain"](), split)
