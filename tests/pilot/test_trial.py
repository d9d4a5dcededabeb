"""The trial keeps its budget and does first what a decision needs most."""

from types import SimpleNamespace

import numpy as np
import pytest

from blomix.data import Examples
from blomix.errors import InputError
from blomix.pilot import trial
from blomix.pilot.trial import plan, run_trial
from blomix.runs import NonFinite

FOLDS = {"probe": 1, "plain": 1, "blomix": 5}
METHODS = {name: SimpleNamespace(name=name, lanes=lanes) for name, lanes in FOLDS.items()}
COST = {"probe": 0.005, "plain": 0.005, "blomix": 1.0}  # seconds a label
COMPILING = 10.0  # seconds, once a method


def examples(n=160):
    labels = np.arange(n) % 2
    return Examples(tuple(f"text {i}" for i in range(n)), None, labels, ("a", "b"), name="toy")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only training moves."""
    now = SimpleNamespace(seconds=0.0, compiled=set())

    def finetune(encoder, train, tested, method, **options):
        assert not set(train.digests) & set(tested.digests)
        assert len(train) >= method.lanes
        compiling = COMPILING if method.name not in now.compiled else 0
        now.seconds += COST[method.name] * len(train) + compiling
        now.compiled.add(method.name)
        return SimpleNamespace(score=0.5, summary={"majority_score": 0.5})

    monkeypatch.setattr(trial, "finetune", finetune)
    return lambda: now.seconds


def test_three_splits_with_all_labels_come_before_the_rest():
    order = [(task.split, task.size) for task in plan(("probe",), 3)]
    assert order[:5] == [(0, 0.25), (1, 0.25), (0, 1.0), (1, 1.0), (2, 1.0)]
    assert len(order) == len(set(order)) == 9


def test_a_small_budget_judges_the_cheap_methods_before_the_costly_one_starts(clock):
    cells, _ = run_trial(None, examples(), METHODS, 45.0, clock=clock)
    full = [(cell.method, cell.split) for cell in cells if cell.n == 120]
    assert full[:6] == [(method, split) for method in ("probe", "plain") for split in range(3)]
    assert sum(cell.method == "blomix" for cell in cells) == 1


def test_a_budget_is_not_overrun_but_by_the_first_model_of_a_method(clock):
    cells, _ = run_trial(None, examples(), METHODS, 400.0, clock=clock)
    assert clock() <= 400
    assert {cell.method for cell in cells if cell.n == 120} == set(METHODS)
    assert sum(cell.method == "blomix" and cell.n == 120 for cell in cells) >= 2


def test_what_the_costly_method_leaves_goes_to_the_others(clock):
    cells, _ = run_trial(None, examples(), METHODS, 115.0, clock=clock)
    count = {method: sum(cell.method == method for cell in cells) for method in METHODS}
    assert count == {"probe": 30, "plain": 30, "blomix": 2}


def test_without_an_end_of_time_everything_is_trained(clock):
    cells, _ = run_trial(None, examples(), METHODS, 1e9, splits=2, clock=clock)
    assert len(cells) == 2 * 3 * 3
    assert {cell.n for cell in cells} == {30, 60, 120}
    assert {cell.tested for cell in cells} == {40}


@pytest.mark.parametrize("n", [trial.FEWEST, 18, 24])
def test_the_smallest_trial_has_an_example_a_fold(n, clock):
    cells, _ = run_trial(None, examples(n), METHODS, 1e9, splits=2, clock=clock)
    assert {cell.method for cell in cells} == set(METHODS)


def test_no_model_is_trained_twice_where_sizes_are_the_same(clock):
    """A quarter and a half of 18 labels are as few as there are folds."""
    many = {name: SimpleNamespace(name=name, lanes=10) for name in METHODS}
    cells, _ = run_trial(None, examples(24), many, 1e9, splits=2, clock=clock)
    tried = [(cell.method, cell.split, cell.n) for cell in cells]
    assert len(tried) == len(set(tried)) == 2 * 2 * 3


def test_more_folds_than_labels_to_train_on_are_refused(clock):
    many = {"blomix": SimpleNamespace(lanes=10)}
    with pytest.raises(InputError, match="a split trains on 9, too few to give each of 10 folds"):
        run_trial(None, examples(12), many, 1e9, clock=clock)


def test_the_first_model_is_trained_whatever_the_budget(clock):
    (cell,), _ = run_trial(None, examples(), METHODS, 1e-9, clock=clock)
    assert cell.method == "probe"


def interrupted(clock, monkeypatch, error, at):
    """Training that ends in an error at the `at`-th model, and whichever of its method follow."""
    train, seen = trial.finetune, []

    def finetune(*arguments, **options):
        seen.append(arguments[3].name)
        if len(seen) == at:
            raise error
        return train(*arguments, **options)

    monkeypatch.setattr(trial, "finetune", finetune)
    return seen


def test_ctrl_c_ends_the_trial_and_keeps_what_is_trained(clock, monkeypatch):
    lines = []
    interrupted(clock, monkeypatch, KeyboardInterrupt(), at=7)
    cells, left_out = run_trial(None, examples(), METHODS, 1e9, note=lines.append, clock=clock)
    assert len(cells) == 6
    assert left_out == {"blomix": "the trial was stopped"}
    assert lines[-1] == "stopped: the models trained so far decide"


def test_ctrl_c_before_the_first_model_is_ctrl_c(clock, monkeypatch):
    interrupted(clock, monkeypatch, KeyboardInterrupt(), at=1)
    with pytest.raises(KeyboardInterrupt):
        run_trial(None, examples(), METHODS, 1e9, clock=clock)


@pytest.mark.parametrize("error", [NonFinite("loss is nan"), MemoryError("too much")])
def test_a_method_that_cannot_be_trained_is_left_out(clock, monkeypatch, error):
    lines = []
    seen = interrupted(clock, monkeypatch, error, at=11)
    cells, left_out = run_trial(
        None, examples(), METHODS, 1e9, splits=3, note=lines.append, clock=clock
    )
    assert left_out == {"blomix": str(error)}
    assert seen.count("blomix") == 1
    assert {cell.method for cell in cells} == {"probe", "plain"}
    assert f"blomix is left out: {error}" in lines


def test_where_no_method_can_be_trained_the_trial_fails_as_the_first_did(clock, monkeypatch):
    interrupted(clock, monkeypatch, NonFinite("loss is nan"), at=1)
    with pytest.raises(NonFinite, match="loss is nan"):
        run_trial(None, examples(), {"probe": METHODS["probe"]}, 1e9, clock=clock)


def test_other_errors_are_not_hidden(clock, monkeypatch):
    interrupted(clock, monkeypatch, RuntimeError("a failure of blomix"), at=3)
    with pytest.raises(RuntimeError, match="a failure of blomix"):
        run_trial(None, examples(), METHODS, 1e9, clock=clock)


def test_a_handful_of_examples_is_refused():
    with pytest.raises(InputError, match="too few for a trial"):
        run_trial(None, examples(8), METHODS, 10.0)
