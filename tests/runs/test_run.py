"""What a run gives back after it was stopped, and what it refuses."""

import json
import os
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from blomix.errors import InputError
from blomix.runs import Interrupted, NonFinite, open_run

from .conftest import CONFIG, DIGESTS


class State(NamedTuple):
    params: dict
    optimizer: object
    key: jax.Array
    step: int


def make_state(seed: int = 0) -> State:
    params = {
        "weight": jax.random.normal(jax.random.key(seed), (3, 4)),
        "half": jnp.asarray([1.5, -0.1], jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
        "table": np.arange(6, dtype=np.int64).reshape(2, 3),
        "scalar": np.float64(0.1),
        "flag": True,
        "rate": 1e-17,
        "nested": ({}, [jnp.int8(3)]),
    }
    optimizer = optax.masked(optax.adamw(1e-3), {"weight": True, "half": False})
    moments = optimizer.init({name: params[name] for name in ("weight", "half")})
    return State(params, moments, jax.random.split(jax.random.key(seed), 2), seed)


def bits(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    value = np.asarray(leaf)
    return value.dtype, value.shape, value.tobytes()


def equal(left, right) -> bool:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(type(a) is type(b) and bits(a) == bits(b) for a, b in pairs)


def lines(run) -> list[dict]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_state_comes_back_bit_for_bit(opened):
    with opened() as run:
        assert run.restore("finetune", make_state(1)) is None
        run.save("finetune", 7, make_state(1))
    with opened() as run:
        step, state = run.restore("finetune", make_state(0))
        assert step == 7
        assert equal(state, make_state(1))


def test_shapes_are_enough_to_restore_by(opened):
    state = {"weight": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(1)}
    with opened() as run:
        run.restore("finetune", {"step": 0})
        run.save("finetune", 7, state, final=True)
        shapes = jax.eval_shape(lambda: state)
        _, restored = run.restore("finetune", {"step": 0}, shapes)
        assert equal(restored, state)


def test_a_weakly_typed_scalar_stays_weak(opened):
    with opened() as run:
        run.restore("finetune", None)
        run.save("finetune", 1, {"rate": jnp.asarray(0.1)})
        run.wait()
        _, state = run.restore("finetune", {"rate": jnp.float32(0)})
        assert state["rate"].weak_type
        assert state["rate"] == jnp.float32(0.1)
        with pytest.raises(TypeError, match="weakly typed"):
            run.save("finetune", 2, {"rate": jnp.broadcast_to(jnp.asarray(0.1), 2)})


def test_buffers_may_be_donated_while_a_save_is_at_work(opened):
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = step({"weight": jnp.zeros((500, 500))})
    with opened() as run:
        run.restore("finetune", state)
        run.save("finetune", 1, state)
        for _ in range(20):
            state = step(state)
        run.wait()
        _, restored = run.restore("finetune", state)
        assert (restored["weight"] == 1).all()


def test_resumed_metrics_have_neither_gaps_nor_repeats(opened):
    with opened() as run:
        run.restore("search/0", 0)
        run.log({"step": 1})
        run.save("search/0", 1, 1, final=True)
        run.restore("finetune", 0)
        run.log({"step": 2})
        run.save("finetune", 1, 2)
        run.log({"step": 3})
    with opened() as run:
        assert run.restore("search/0", 0) == (1, 1)
        assert run.finished("search/0")
        assert run.restore("finetune", 0) == (1, 2)
        assert not run.finished("finetune")
        assert lines(run) == [{"step": 1}, {"step": 2}]
        run.log({"step": 3})
    assert [line["step"] for line in lines(run)] == [1, 2, 3]


def test_a_torn_line_of_the_audit_is_dropped(opened, tmp_path):
    opened().close()
    path = tmp_path / "run" / "audit.jsonl"
    before = path.read_text()
    path.write_text(before + '{"time": "2026-11')
    opened().close()
    lines = path.read_text()
    assert lines.startswith(before)
    assert all(json.loads(line) for line in lines.splitlines())


def test_a_phase_without_a_checkpoint_starts_where_the_one_before_ended(opened):
    with opened() as run:
        run.restore("search/0", 0)
        run.log({"step": 1})
        run.save("search/0", 1, 1, final=True)
        run.restore("finetune", 0)
        run.log({"step": 2})
    with opened() as run:
        run.restore("search/0", 0)
        assert run.restore("finetune", 0) is None
        assert lines(run) == [{"step": 1}]


def test_numbers_are_logged_exactly(opened):
    values = {"third": np.float32(1) / 3, "tiny": 5e-324, "list": jnp.arange(2), "none": jnp.nan}
    with opened() as run:
        run.restore("finetune", 0)
        run.log(values | {"text": "line\u2028\x85\nend"})
        expected = {"third": float(np.float32(1) / 3), "tiny": 5e-324, "list": [0, 1], "none": None}
        assert run.records() == [expected | {"text": "line\u2028\x85\nend"}]


def test_what_is_kept(opened):
    with opened() as run:
        for phase in ("search/0", "finetune"):
            run.restore(phase, 0)
            for step in range(1, 5):
                run.save(phase, step, step)
            run.save(phase, 5, 5, final=True)
    kept = sorted(
        path.parent.relative_to(run.path / "checkpoints").as_posix()
        for path in run.path.rglob("manifest.json")
    )
    assert kept == [
        "finetune/00000003",
        "finetune/00000004",
        "finetune/final",
        "search/0/final",
    ]


def test_a_state_that_diverged_is_never_saved(opened):
    with opened() as run:
        run.restore("finetune", {"w": jnp.zeros(2)})
        run.save("finetune", 1, {"w": jnp.ones(2)})
        with pytest.raises(NonFinite, match="step 2: leaf w holds a non-finite number"):
            run.save("finetune", 2, {"w": jnp.asarray([1.0, jnp.nan])})
    with opened() as run:
        assert run.restore("finetune", {"w": jnp.zeros(2)})[0] == 1


def test_saving_and_logging_need_an_open_phase(opened):
    with opened() as run:
        run.restore("finetune", 0)
        with pytest.raises(RuntimeError, match="'finetune' is still open"):
            run.restore("search/0", 0)
    with opened() as run:
        for use in (lambda: run.log({}), lambda: run.save("finetune", 1, 1)):
            with pytest.raises(RuntimeError, match="call restore"):
                use()
        for phase in ("../x", "/etc", "a/b/c", "final", "a/../b", "", "A b", "a/12345678"):
            with pytest.raises(ValueError, match="expected a name"):
                run.restore(phase, 0)


def do_a_step(run):
    run.restore("search", 0)
    run.log({"step": 1})
    run.close()


def test_another_config_is_refused_line_by_line(opened):
    do_a_step(opened())
    with pytest.raises(InputError) as caught:
        opened(config=CONFIG | {"steps": 4, "recipe": {"rate": 1e-3, "name": "paper"}})
    message = str(caught.value)
    assert "  steps: 3 then, 4 now" in message
    assert "  recipe.rate: 0.0001 then, 0.001 now" in message
    assert "paper" not in message
    assert "--run-dir" in message


def test_a_setting_that_came_later_stands_at_its_default(opened, tmp_path):
    do_a_step(opened())
    later = CONFIG | {"recipe": CONFIG["recipe"] | {"finishes": 1}}
    defaults = {"recipe": {"finishes": 1, "rate": 2e-4, "gone": 3}}
    with open_run(tmp_path / "run", later, DIGESTS, defaults=defaults):
        pass
    later["recipe"]["finishes"] = 2
    with pytest.raises(InputError, match=r"recipe\.finishes: 1 then, 2 now"):
        open_run(tmp_path / "run", later, DIGESTS, defaults=defaults)
    with pytest.raises(InputError, match=r"recipe\.finishes: - then, 2 now"):
        open_run(tmp_path / "run", later, DIGESTS)


def test_changed_data_is_refused(opened):
    do_a_step(opened())
    with pytest.raises(InputError, match=r'train\[1\]: "bb" then, "xx" now'):
        opened(digests=DIGESTS | {"train": ["aa", "xx"]})


def test_a_run_that_has_done_no_step_may_be_begun_with_another_config(opened):
    opened().close()
    do_a_step(opened(config=CONFIG | {"steps": 4}))
    with pytest.raises(InputError, match="steps: 4 then, 3 now"):
        opened()


def test_what_is_left_of_a_run_without_its_log_is_no_room_for_another(opened):
    run = opened()
    run.restore("search", 0)
    run.save("search", 1, 1, final=True)
    run.close()
    (run.path / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="steps: 3 then, 4 now"):
        opened(config=CONFIG | {"steps": 4})


def test_a_foreign_directory_is_left_alone(opened, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("not = 'ours'")
    with pytest.raises(InputError, match=r"not a run of blomix \(it holds 'config.toml'\)"):
        opened()
    assert os.listdir(tmp_path / "run") == ["config.toml"]


def test_a_beginning_that_was_cut_short_is_begun_again(opened, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("lock", "digests.json", "env.json", ".tmp-config.toml"):
        (tmp_path / "run" / name).write_text("{}")
    opened().close()
    opened().close()


def test_paths_that_cannot_be_run_directories(opened, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="choose"):
            opened(path=path)


def test_a_state_of_another_shape_is_refused_by_its_leaf(opened):
    with opened() as run:
        run.restore("finetune", 0)
        run.save("finetune", 1, {"a": jnp.zeros(3), "b": jnp.zeros(2)})
        run.wait()
        expected = r"\['b'\] float32\[2\] where this program expects \['b'\] float32\[4\]"
        with pytest.raises(InputError, match=expected):
            run.restore("finetune", {"a": jnp.zeros(3), "b": jnp.zeros(4)})
        with pytest.raises(InputError, match="2 leaves where this program expects 1"):
            run.restore("finetune", {"a": jnp.zeros(3)})


def test_a_directory_that_vanishes_stops_the_run(opened, tmp_path):
    with opened() as run:
        run.restore("finetune", 0)
        run.save("finetune", 1, 1)
        run.wait()
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="deleted or replaced"):
            run.save("finetune", 2, 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_with_its_code(opened, number, code):
    before = signal.getsignal(number)
    with opened() as run:
        run.restore("finetune", 0)
        run.stop_if_asked("finetune", 1, 1)
        assert not run.stopping
        signal.raise_signal(number)
        assert run.stopping
        with pytest.raises(Interrupted) as caught:
            run.stop_if_asked("finetune", 2, 2)
    assert caught.value.code == code
    assert signal.getsignal(number) is before
    with opened() as run:
        assert run.restore("finetune", 0) == (2, 2)


def test_json_files_are_replaced_whole(opened):
    with opened() as run:
        run.write_json("result.json", {"score": 1.0})
        with pytest.raises(TypeError):
            run.write_json("result.json", {"score": object()})
        assert json.loads((run.path / "result.json").read_text()) == {"score": 1.0}
        assert not list(run.path.glob(".tmp-*"))


def test_time_of_earlier_sessions_counts(opened):
    with opened() as run:
        run.restore("finetune", 0)
        run._since -= 1000
        run.save("finetune", 1, 1)
    with opened() as run:
        run.restore("finetune", 0)
        assert run.elapsed > 1000


def test_a_changed_environment_is_told(opened, capsys):
    run = opened()
    do_a_step(run)
    environment = json.loads((run.path / "env.json").read_text())
    environment["versions"]["jax"] = "0.0.1"
    (run.path / "env.json").write_text(json.dumps(environment))
    opened().close()
    assert 'versions.jax: "0.0.1" then' in capsys.readouterr().err
