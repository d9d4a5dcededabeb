"""Plans: what a step needs, without the devices."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
import tyro

from blomix.cli import finetune
from blomix.cli.plan import text
from blomix.errors import InputError
from blomix.parallel import plan
from blomix.parallel.chips import CHIPS, Topology
from blomix.parallel.flops import matrix_flops
from blomix.parallel.mesh import Shape
from tests.parallel.eight import CONFIG

BATCH, LENGTH = 4, 8


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return plan.Setting(
        tmp_path, Topology.parse("cpu:1"), Shape(), batch=BATCH, length=LENGTH, remat=False
    )


def test_flops_count_loops_as_often_as_they_run():
    def function(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0].sum()

    x, w, once = jnp.ones((4, 8)), jnp.ones((8, 8)), 2 * 4 * 8 * 8
    assert matrix_flops(function, x, w) == 5 * once
    assert matrix_flops(jax.grad(function, (0, 1)), x, w) == 3 * 5 * once
    assert matrix_flops(jax.grad(jax.checkpoint(function), (0, 1)), x, w) == 4 * 5 * once

    def until_small(x, w):
        return jax.lax.while_loop(lambda x: jnp.max(x) > 1, lambda x: x @ w, x)

    assert matrix_flops(until_small, x, w) == once
    assert matrix_flops(until_small, x, w, while_turns=7) == 7 * once

    def solve(w, b):
        return jax.scipy.sparse.linalg.cg(lambda p: w @ p, b, maxiter=7)[0]

    product = 2 * 8 * 8  # 7, and one for the residual of the start; the rest is inner products
    assert 8 * product <= matrix_flops(solve, w, x[0, :], while_turns=7) < 11 * product


def test_a_plan_of_a_finetuning_step(setting):
    (need,) = plan.plan(setting, ("finetune",)).values()
    params = plan.Encoder.abstract(setting.config, scan_layers=True).params
    weights = sum(4 * leaf.size for leaf in jax.tree.leaves(params))
    # Task weights, both moments, and those pretrained weights that are mixed.
    assert 3 * weights < need.memory["arguments"] < 4 * weights
    assert need.memory["temporaries"] > 0
    assert need.fits
    hidden, width, layers = 32, CONFIG["intermediate_size"], CONFIG["num_hidden_layers"]
    products = layers * (4 * hidden**2 + 2 * hidden * width) * BATCH * LENGTH
    assert 3 * 2 * products < need.flops < 3 * 2 * products * 1.3  # attention and pooler on top


def test_a_family_whose_layers_differ_has_a_plan(setting):
    """Its layers cannot be scanned, which a plan does where it can."""
    config = dict(CONFIG) | {"model_type": "modernbert", "pad_token_id": 0}
    (need,) = plan.plan(replace(setting, config=config), ("finetune",)).values()
    assert need.memory["temporaries"] > 0


def test_the_flags_of_a_plan_train_its_steps(setting):
    wanted = replace(
        setting,
        accumulate=2,
        unroll=2,
        hypergradient="finite_difference",
        ensemble=4,
        mesh=Shape(data=1),
    )
    flags = tyro.cli(finetune.Config, args=["--model", "m", *replace(wanted, remat=True).flags])
    assert (flags.max_length, flags.dtype, flags.remat) == (LENGTH, "bfloat16", True)
    assert flags.scan_layers
    assert Shape.parse(flags.mesh) == wanted.mesh
    assert not tyro.cli(finetune.Config, args=["--model", "m", *wanted.flags]).remat
    # The recipe itself refuses the two together; each is as it was asked for.
    with pytest.raises(InputError, match="accumulate: expected hypergradient 'exact'"):
        finetune.method_of(flags)
    recipe = finetune.method_of(replace(flags, accumulate=None))
    assert (recipe.batch_size, recipe.unroll, recipe.folds) == (BATCH, 2, 4)
    assert flags.together == "yes"
    one = tyro.cli(finetune.Config, args=["--model", "m", *replace(wanted, ensemble=1).flags])
    assert one.together == "no"  # or it would first be asked whether three folds fit
    assert recipe.hypergradient == "finite_difference"
    assert flags.accumulate == 2


def test_less_work_and_fewer_chips_are_tried_first(setting):
    tried = list(plan.candidates(replace(setting, topology=Topology.parse("v5e:2x2"), batch=8)))
    assert str(tried[0]) == "--topology v5e:1x1 --mesh ensemble=1,data=1,model=1 --no-remat"
    assert [candidate.topology.size for candidate in tried] == [1] * 2 + [4] * 4 + [8] * 4
    assert all(8 % candidate.mesh.rows == 0 for candidate in tried)


def test_splitting_the_weights_divides_the_least_there_must_be(setting):
    split = replace(setting, mesh=Shape(model=4))
    assert plan.least_bytes(split) == pytest.approx(plan.least_bytes(setting) / 4)


REFUSAL = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 24.60G of 15.75G hbm."
NEWER_REFUSAL = (
    "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
    "required for HLO temporaries (19.52G) exceeds available HBM (15.75G). HLO module: jit_step."
)


def test_bytes_wanted_are_read_from_the_compiler():
    assert plan.bytes_wanted(RuntimeError(REFUSAL)) == int(24.6 * 2**30)
    assert plan.bytes_wanted(RuntimeError(NEWER_REFUSAL)) == int(19.52 * 2**30)
    with pytest.raises(RuntimeError, match="another"):
        plan.bytes_wanted(RuntimeError("another failure"))


def test_a_refusal_of_the_compiler_is_a_result(setting, monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError(REFUSAL)

    monkeypatch.setattr(plan, "compile_step", refuse)
    monkeypatch.setattr(plan, "_limit", lambda _: CHIPS["v5e"].memory)
    (need,) = plan.plan(setting, ("finetune",)).values()
    record = json.loads(json.dumps(need.record(), allow_nan=False))
    assert not record["fits"]
    printed = text({"topology": "", "mesh": "", "steps": {"finetune": record}, "flags": ["-a"]})
    assert "24.60 of 15.75 GiB (total 24.60), DOES NOT FIT" in printed


def test_a_quick_plan_has_the_bytes_of_the_compiled_program(setting):
    pytest.importorskip("libtpu")
    setting = replace(setting, topology=Topology.parse("v5e:1x1"))
    (quick,) = plan.plan(setting, ("finetune",)).values()
    (whole,) = plan.plan(replace(setting, quick=False), ("finetune",)).values()
    for kind in ("arguments", "outputs"):
        assert quick.memory[kind] == whole.memory[kind]
    assert abs(quick.memory["temporaries"] - whole.memory["temporaries"]) <= 2**14
    assert (quick.flops, quick.seconds) == (whole.flops, whole.seconds)


def test_topologies():
    assert Topology.parse("v5e:4x4").size == 16
    assert Topology.parse("v6e:2x4").chip == CHIPS["v6e"]
    assert str(Topology.parse("cpu:8")) == "cpu:8"
    for name in ("v5e", "v9:2x2", "v5e:2", "cpu:2x2", "v5e:0x1", "../x:1x1"):
        with pytest.raises(InputError, match="topology"):
            Topology.parse(name)


def test_a_mesh_larger_than_the_topology_is_refused(setting, blomix):
    code, _, err = blomix(
        "plan", setting.config, "--topology", "v5e:2x2", "--mesh", "data=8", "--json"
    )
    assert code == 2
    assert "expected at most 4 devices" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mesh", "ensemble=2"), "1 folds or seeds (--ensemble) cannot be split evenly over 2"),
        (("--mesh", "data=2", "--accumulate", "8"), "1 rows of a batch (batch_size 8, accumulate"),
    ],
)
def test_what_finetune_would_refuse_is_refused(setting, blomix, flags, message):
    code, _, err = blomix(
        "plan", setting.config, "--topology", "cpu:2", "--batch-size", "8", *flags, "--json"
    )
    assert code == 2
    assert message in err


@pytest.mark.parametrize("flags", [("--max-length", "0"), ("--ensemble", "0")])
def test_sizes_that_make_no_sense_are_refused(setting, blomix, flags):
    code, _, err = blomix("plan", setting.config, "--topology", "cpu:1", *flags)
    assert code == 2
    assert "expected a whole number of at least 1, found 0" in err
