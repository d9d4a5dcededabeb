"""A batch in parts: the numbers of the whole batch, in less memory."""

import jax
import jax.numpy as jnp
import pytest

from blomix.accumulation import in_parts
from blomix.baselines import METHODS
from blomix.errors import InputError
from blomix.recipe import Recipe, Training
from blomix.recipe.program import build
from tests.baselines.test_methods import QUICK, distance


@pytest.mark.usefixtures("quick_to_compile")
# The recipe (whose search step has parts of its own), and each way to come by a gradient.
@pytest.mark.parametrize("name", ["blomix", "plain", "soup", "joint", "sam", "child_tuning"])
def test_parts_change_nothing_without_dropout(name, make_job, run):
    job, kind = make_job(), METHODS[name]
    whole = run(kind(**QUICK[name]), job)
    parts = run(kind(**QUICK[name], accumulate=4), job)
    assert distance(whole.params, parts.params) < 1e-8
    assert distance(whole.params, job.encoder.params) > 1e-3


def test_each_part_has_a_key_of_its_own():
    def draw(weights, batch, key):
        return jax.random.uniform(key), weights

    drawn, _ = in_parts(draw, 4)(jnp.ones(2), jnp.ones(8), jax.random.key(0))
    assert len(set(drawn.tolist())) == 4


def test_parts_take_less_memory(make_job):
    job = make_job()
    temporaries = [
        build(next(Training(batch_size=24, accumulate=parts).fit(job))).memory["temporaries"]
        for parts in (1, 8)
    ]
    assert temporaries[1] < 0.7 * temporaries[0]


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(InputError, match="divisor of batch_size = 16, found 3"):
        Training(accumulate=3)
    with pytest.raises(InputError, match="expected hypergradient 'exact'"):
        Recipe(accumulate=2, hypergradient="reverse")
