"""The property that defines each method."""

import dataclasses

import jax
import numpy as np
import pytest

from blomix._trees import joined
from blomix.baselines import METHODS
from blomix.baselines.bitfit import BitFit
from blomix.baselines.child_tuning import ChildTuning, greatest
from blomix.baselines.divergence import symmetric_divergence
from blomix.baselines.ema import Ema
from blomix.baselines.hype import Hype, layer_noise
from blomix.baselines.joint import Joint
from blomix.baselines.l2sp import L2sp
from blomix.baselines.lora import Lora
from blomix.baselines.lp_ft import LpFt
from blomix.baselines.mixout import Mixout, mixed_out
from blomix.baselines.probe import Probe
from blomix.baselines.r3f import R3f, smooth
from blomix.baselines.random_alpha import RandomAlpha
from blomix.baselines.rdrop import RDrop, agreeing
from blomix.baselines.reinit import Reinit
from blomix.baselines.sam import AtWorst, Sam
from blomix.baselines.soup import Soup
from blomix.baselines.top_layers import TopLayers
from blomix.baselines.wise_ft import WiseFt
from blomix.errors import InputError
from blomix.hypergradient import ESTIMATORS
from blomix.recipe import Recipe, Training
from blomix.recipe.leaves import Leaves
from blomix.recipe.probe import fit_probe

pytestmark = pytest.mark.usefixtures("quick_to_compile")

SHORT = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2}
FOLDED = SHORT | {"folds": 2, "search_epochs": 2, "search_learning_rate": 1e-2}
QUICK = {name: FOLDED if "folds" in vars(kind()) else SHORT for name, kind in METHODS.items()}
# Methods that train few numbers need larger steps, or more of them, to get anywhere; so does one
# that starts from a probe, and that probe itself a weaker penalty, on so small features.
QUICK |= {name: SHORT | {"learning_rate": 5e-2} for name in ("lora", "bitfit")}
QUICK["probe"] = SHORT | {"strength": 1.0}
EPOCHS = {"bitfit": 30, "wise_ft": 20}


def leaves(params) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_leaves_with_path(params)
    return {joined(path): np.asarray(leaf) for path, leaf in found}


def distance(a, b) -> float:
    """Greatest difference of two trees' entries."""
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def moved(params, job) -> float:
    """Euclidean distance of the encoder's weights from the pretrained ones."""
    start = leaves(job.encoder.params)
    return sum(
        float(((leaf - start[name]) ** 2).sum())
        for name, leaf in leaves(params).items()
        if not name.startswith("head")
    )


@pytest.fixture
def plain(make_job, run):
    return run(Training(**SHORT), make_job()).params


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_the_loss_and_repeats_to_the_bit(name, make_job, run):
    method = METHODS[name](**QUICK[name] | {"epochs": EPOCHS.get(name, 6)})
    job = make_job(dropout=0.1)
    fitted = run(method, job)
    assert distance(fitted.params, run(method, make_job(dropout=0.1)).params) == 0
    before, after = (
        job.loss(params, job.arrays, None) for params in (job.encoder.params, fitted.params)
    )
    assert after < 0.9 * before


@pytest.mark.parametrize("name", METHODS)
def test_steps_of_other_seeds_rates_and_lengths_are_one_program(name, make_job):
    method = METHODS[name](**QUICK[name])
    other = METHODS[name](**QUICK[name] | {"epochs": 5, "learning_rate": 1e-3})
    phases = [next(fit, None) for fit in (method.fit(make_job(1)), other.fit(make_job(2)))]
    if name != "probe":
        assert phases[0].step == phases[1].step
        assert hash(phases[0].step) == hash(phases[1].step)


@pytest.mark.parametrize("name", ["plain", "blomix", "mixout", "child_tuning", "wise_ft", "lora"])
def test_seeds_and_rates_side_by_side_are_themselves_alone(name, make_job, run):
    method = METHODS[name](**QUICK[name])
    slow = dataclasses.replace(method, learning_rate=1e-4)
    jobs = [make_job(seed, dropout=0.1) for seed in (1, 2)]
    together = run([method, slow], jobs)
    for own, job, fitted in zip((method, slow), jobs, together, strict=True):
        assert distance(fitted.params, run(own, job).params) < 1e-6


def test_soup_is_the_recipe_with_alpha_one(make_job, run):
    # Alpha stays where it is, so the hypergradient may be the one that compiles fastest.
    still = {"alpha_init": 1.0, "alpha_noise": 0.0, "outer_learning_rate": 0.0}
    still["hypergradient"] = "first_order"
    soup = run(Soup(**FOLDED), make_job()).params
    assert distance(soup, run(Recipe(**FOLDED, **still), make_job()).params) < 1e-6
    assert (
        distance(soup, run(Recipe(**FOLDED, **still | {"alpha_init": 0.5}), make_job()).params)
        > 1e-3
    )


def test_joint_learns_alpha(make_job, run):
    free = run(Joint(**SHORT, alpha_init=0.5, outer_learning_rate=0.05), make_job())
    assert max(np.abs(share - 0.25).max() for share in free.shares.values()) > 0.01
    assert all(share.min() >= 0 and share.max() <= 1 for share in free.shares.values())


def test_joint_with_alpha_held_at_one_is_plain(make_job, run, plain):
    still = Joint(**SHORT, alpha_noise=0.0, outer_learning_rate=0.0)
    assert distance(run(still, make_job()).params, plain) < 1e-6


def test_random_alpha_of_one_is_plain_and_of_zero_keeps_the_mixed_matrices(make_job, run, plain):
    job = make_job()
    assert distance(run(RandomAlpha(**SHORT, low=1.0), job).params, plain) < 1e-6
    kept = leaves(run(RandomAlpha(**SHORT, high=0.0), job).params)
    start = leaves(job.encoder.params)
    assert all((kept[name] == start[name]).all() for name in kept if "query/kernel" in name)
    assert any((kept[name] != start[name]).any() for name in kept if "query/bias" in name)


def test_random_alpha_is_drawn_from_the_seed(make_job, run):
    one, two = (run(RandomAlpha(**SHORT), make_job(seed)).shares for seed in (1, 2))
    assert all((one[name] != two[name]).any() for name in one)


def test_probe_changes_the_head_alone(make_job, run):
    job = make_job()
    assert moved(run(Probe(), job).params, job) == 0


def test_lp_ft_starts_from_the_probe(make_job, run):
    job = make_job()
    slow = run(LpFt(**SHORT | {"learning_rate": 1e-9}), job).params
    assert distance(slow, run(Probe(), job).params) < 1e-6


def test_l2sp_without_strength_is_plain_and_with_much_stays_near(make_job, run):
    job = make_job()
    free = run(L2sp(**SHORT, strength=0.0, head_strength=0.0), job).params
    plain = run(Training(**SHORT, weight_decay=0.0), job).params
    assert distance(free, plain) == 0
    distances = [
        moved(run(L2sp(**SHORT | {"epochs": 20}, strength=strength), job).params, job)
        for strength in (0.0, 1.0, 1e6)
    ]
    assert distances[0] > 3 * distances[1] > 9 * distances[2]


def test_ema_without_decay_is_plain_and_averages_otherwise(make_job, run, plain):
    job = make_job()
    assert distance(run(Ema(**SHORT, decay=0.0), job).params, plain) == 0
    # One step: the average of one set of weights is that set, whatever the decay.
    once = {"epochs": 1, "batch_size": 24, "learning_rate": 1e-2}
    one = run(Training(**once), job).params
    assert distance(run(Ema(**once, decay=0.9), job).params, one) == 0


def test_ema_of_all_steps_is_their_mean(make_job, run):
    job = make_job()
    rates = SHORT | {"warmup": 0.0}
    step, seen = Training(**rates).step(job), []
    state = step.init(job.encoder.params, job.key("finetune"))
    for t in range(6):
        state, _ = jax.jit(step)(state, job.encoder.params, job.take(job.rows("finetune", t, 8)))
        seen.append(state.params)
    mean = jax.tree.map(lambda *x: sum(x) / len(x), *seen)
    assert distance(run(Ema(**rates, decay=1.0), job).params, mean) < 1e-6


def test_wise_ft_interpolates_from_the_start_to_the_end(make_job, run):
    from blomix.baselines.wise_ft import interpolate

    job = make_job()
    start = run(Probe(), job).params
    end = run(LpFt(**SHORT), job).params
    assert distance(interpolate(start, end, 0.0), start) == 0
    assert distance(interpolate(start, end, 1.0), end) < 1e-6
    fitted = run(WiseFt(**FOLDED, coefficients=3), job)
    coefficient = fitted.facts["coefficient"]
    assert coefficient in (0.0, 0.5, 1.0)
    assert distance(fitted.params, interpolate(start, end, coefficient)) < 1e-6


def test_mixout_of_nothing_is_plain_and_of_much_is_not(make_job, run):
    job = make_job(dropout=0.1)
    plain = run(Training(**SHORT), job).params
    assert distance(run(Mixout(**SHORT, probability=0.0, dropout=True), job).params, plain) == 0
    assert distance(run(Mixout(**SHORT, probability=0.9, dropout=True), job).params, plain) > 1e-3


def test_mixout_keeps_the_mean(make_job):
    job = make_job()
    method = Mixout(probability=0.5)
    seen = []

    def spy(params, batch, key):
        seen.append(params["layers"]["0"]["query"]["kernel"])
        return 0.0

    where = Leaves.of(job.encoder.params, job.encoder.is_mixed)
    objective = mixed_out(spy, where, method.probability, method.dropout)
    task = jax.tree.map(lambda leaf: leaf + 1, job.encoder.params)
    for t in range(400):
        objective(task, None, job.encoder.params, None, jax.random.key(t))
    start = job.encoder.params["layers"]["0"]["query"]["kernel"]
    drawn = np.stack(seen) - np.asarray(start)
    assert set(np.round(np.unique(drawn), 3)) == {0.0, 2.0}
    assert np.abs(drawn.mean(0) - 1).max() < 0.25


def test_wise_ft_takes_the_best_coefficient_and_of_equals_the_larger(make_job, monkeypatch):
    job = make_job()
    method = WiseFt(**FOLDED)
    ends = [(np.zeros(1), np.ones(1))] * 2
    monkeypatch.setattr("blomix.baselines.wise_ft.predict_logits", lambda _, params, __: params)
    for best, expected in (({0.3}, 0.3), ({0.3, 0.7}, 0.7), (set(), 1.0)):
        monkeypatch.setattr(
            "blomix.baselines.wise_ft.metrics.height",
            lambda metric, labels, logits, best=best: round(float(logits[0]), 2) in best,
        )
        assert method.choose(job, ends) == pytest.approx(expected)


def test_rdrop_adds_a_quarter_of_the_divergence_of_two_masks(make_job):
    model, params, batch, key = one_batch(make_job(dropout=0.3))
    two = [model.logits(params, batch, own) for own in jax.random.split(key)]
    apart = symmetric_divergence(*two, False)
    bare, full = (
        agreeing(model, False, strength)(params, None, None, batch, key) for strength in (0.0, 2.0)
    )
    assert apart > 1e-4
    np.testing.assert_allclose(full - bare, 2.0 / 4 * apart, rtol=1e-3)


def test_r3f_adds_the_divergence_that_its_noise_makes(make_job):
    model, params, batch, key = one_batch(make_job())
    scale = 0.5
    bare, full = (
        smooth(model, False, strength, scale, "normal")(params, None, None, batch, key)
        for strength in (0.0, 3.0)
    )
    layers = len(model.architecture.layer_of_step)
    noise = layer_noise(model, batch, key, scale, "normal", layers)
    noise = noise.at[1:].set(0)
    clean, noisy = model.logits(params, batch, key), model.logits(params, batch, key, noise=noise)
    apart = symmetric_divergence(clean, noisy, False)
    assert apart > 1e-4
    np.testing.assert_allclose(full - bare, 3.0 * apart, rtol=1e-3)


def test_r3f_s_passes_have_masks_of_their_own(make_job):
    """So that at the published scale there is a divergence at all, as in the authors' code."""

    def penalty(dropout):
        one = one_batch(make_job(dropout=dropout))
        bare, full = (
            smooth(one[0], False, strength, 1e-5, "uniform")(one[1], None, None, *one[2:])
            for strength in (0.0, 1.0)
        )
        return full - bare

    assert penalty(0.1) > 1e4 * penalty(0.0) > 0


@pytest.mark.parametrize("method", [R3f, RDrop])
def test_two_passes_that_cannot_differ_are_warned_of(method, make_job, caplog):
    method(**SHORT).step(make_job(dropout=0.1))
    assert not caplog.records
    method(**SHORT).step(make_job())
    assert f"{method.name}: the encoder has no dropout" in caplog.text


def test_layer_noise_has_a_stream_that_dropout_does_not_draw_from(make_job):
    model, _, batch, key = one_batch(make_job())
    noise = layer_noise(model, batch, key, 1.0, "normal", layers=1)
    for own in (key, *jax.random.split(key, 100)):
        assert not np.array_equal(noise, jax.random.normal(own, noise.shape))


def one_batch(job):
    return job.encoder.model, job.encoder.params, job.take(np.arange(8)), jax.random.key(1)


def test_bitfit_refuses_an_encoder_without_biases(make_job, monkeypatch):
    job = make_job()
    monkeypatch.setattr(
        "blomix.baselines.bitfit.joined", lambda path: joined(path).replace("bias", "shift")
    )
    with pytest.raises(InputError, match="expected an encoder with biases"):
        BitFit(**SHORT).trained(job)


def test_reinit_fits_a_probe_to_the_layers_that_it_drew(make_job, run):
    job = make_job()
    frozen = SHORT | {"learning_rate": 1e-9, "head_init": "probe"}
    found = run(Reinit(**frozen, layers=1), job).params
    drawn = dataclasses.replace(job, encoder=dataclasses.replace(job.encoder, params=found))
    weights, bias = fit_probe(drawn)
    np.testing.assert_allclose(found["head"]["kernel"], weights, atol=1e-4)
    np.testing.assert_allclose(found["head"]["bias"], bias, atol=1e-4)


def test_rdrop_without_dropout_is_plain(make_job, run, plain, caplog):
    assert distance(run(RDrop(**SHORT, strength=5.0), make_job()).params, plain) < 1e-6
    assert "plain finetuning at twice its cost" in caplog.text


def test_rdrop_without_strength_is_the_mean_of_two_masks(make_job):
    job = make_job(dropout=0.1)
    objective = RDrop(strength=0.0).step(job).objective
    key, params = jax.random.key(5), job.encoder.params
    two = [job.loss(params, job.arrays, own) for own in jax.random.split(key)]
    assert two[0] != two[1]
    assert objective(params, None, params, job.arrays, key) == pytest.approx(sum(two) / 2)
    stronger = RDrop(strength=1.0).step(job).objective(params, None, params, job.arrays, key)
    assert stronger > sum(two) / 2


def test_divergence_is_that_of_scipy():
    from scipy.special import softmax
    from scipy.stats import entropy

    from blomix.baselines.divergence import symmetric_divergence

    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 5, 3))
    p, q = softmax(one, 1), softmax(two, 1)
    expected = np.mean([entropy(a, b) + entropy(b, a) for a, b in zip(p, q, strict=True)])
    assert symmetric_divergence(one, two, False) == pytest.approx(expected, rel=1e-5)


def test_r3f_and_hype_without_noise_are_plain(make_job, run, plain):
    assert distance(run(R3f(**SHORT, scale=0.0), make_job()).params, plain) < 1e-6
    assert distance(run(Hype(**SHORT, scale=0.0), make_job()).params, plain) < 1e-6
    assert distance(run(Hype(**SHORT, scale=0.5), make_job()).params, plain) > 1e-3


def test_noise_enters_the_layer_it_is_meant_for(make_job):
    job = make_job()
    model, params = job.encoder.model, job.encoder.params
    batch = job.take(np.arange(4))
    noise = np.zeros((2, 4, 8, 16), np.float32)
    clean = model.logits(params, batch)
    assert (model.logits(params, batch, noise=noise) == clean).all()
    noise[1] = 1000.0  # the second layer's input: LayerNorm hides a constant from the residual sum
    frozen = jax.tree.map(np.zeros_like, params["layers"]["0"])
    changed = {**params, "layers": {**params["layers"], "0": frozen}}
    assert np.isfinite(model.logits(changed, batch, noise=noise)).all()
    noise = np.random.default_rng(0).normal(size=noise.shape).astype(np.float32)
    assert np.abs(model.logits(params, batch, noise=noise) - clean).max() > 1e-2


def test_child_tuning_f_of_everything_is_plain(make_job, run, plain):
    assert distance(run(ChildTuning(**SHORT, mode="F", share=1.0), make_job()).params, plain) == 0


def test_child_tuning_f_thins_the_encoder_and_not_the_head(make_job):
    job = make_job()
    step = ChildTuning(mode="F", share=0.25).step(job)
    arguments = (job.encoder.params, None, job.encoder.params, job.arrays, jax.random.key(0))
    _, full = jax.value_and_grad(step.objective)(*arguments)
    _, thin = step.gradient(jax.value_and_grad(step.objective))(*arguments)
    full, thin = leaves(full), leaves(thin)
    kernel = "layers/0/feed_forward_in/kernel"
    kept = thin[kernel] != 0
    assert 0.15 < kept.mean() < 0.35
    np.testing.assert_allclose(thin[kernel][kept], full[kernel][kept] * 4, rtol=1e-5)
    assert (thin["head/kernel"] == full["head/kernel"]).all()


def test_child_tuning_d_changes_the_share_with_the_greatest_fisher_information(make_job, run):
    job = make_job()
    fitted = run(ChildTuning(**SHORT, weight_decay=0.0, share=0.2), job)
    start, end = leaves(job.encoder.params), leaves(fitted.params)
    changed = {name: end[name] != start[name] for name in end}
    layers = [changed[name].ravel() for name in end if name.startswith("layers/")]
    assert np.concatenate(layers).mean() == pytest.approx(0.2, abs=0.01)
    # Outside the layers all that has a gradient trains: tokens that the texts have, and the head.
    present = np.unique(job.arrays["input_ids"][job.arrays["attention_mask"] == 1])
    tokens = changed["embeddings/token/embedding"]
    assert tokens[present].mean() > 0.9
    assert changed["head/kernel"].mean() > 0.9


def test_greatest_keeps_the_greatest():
    tree = {"a": np.array([1.0, 5.0, 3.0]), "b": np.array([4.0, 2.0]), "head": np.zeros(2)}
    mask = greatest(tree, Leaves(frozenset({"a", "b"})), 0.4)
    assert mask["a"].tolist() == [False, True, False]
    assert mask["b"].tolist() == [True, False]
    assert mask["head"].all()


def test_reinit_draws_the_top_anew_and_keeps_the_rest(make_job, run):
    job = make_job()
    still = run(Reinit(**SHORT | {"learning_rate": 1e-9}, layers=1), job).params
    start, end = leaves(job.encoder.params), leaves(still)
    for name in start:
        far = np.abs(start[name] - end[name]).max() > 1e-3
        drawn = name.startswith(("layers/1", "pooler")) and name.endswith("kernel")
        assert far == drawn, name


def test_reinit_trains_lower_layers_more_slowly(make_job, run, plain):
    job = make_job()
    assert distance(run(Reinit(**SHORT, layers=0, decay=1.0), job).params, plain) < 1e-6
    once = {"epochs": 1, "batch_size": 24, "learning_rate": 1e-3, "weight_decay": 0.0}
    end = leaves(run(Reinit(**once, layers=0, decay=0.5), job).params)
    start = leaves(job.encoder.params)
    # Adam's first update has the size of the rate wherever the gradient is not tiny.
    sizes = [
        np.median(
            np.abs(end[f"layers/{layer}/value/kernel"] - start[f"layers/{layer}/value/kernel"])
        )
        for layer in (0, 1)
    ]
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.01)
    assert sizes[1] == pytest.approx(0.5e-3, rel=0.01)


def test_top_layers_keeps_the_lower_ones(make_job, run, plain):
    job = make_job()
    start = leaves(job.encoder.params)
    end = leaves(run(TopLayers(**SHORT, layers=1), job).params)
    for name in start:
        kept = name.startswith(("embeddings", "layers/0"))
        assert (start[name] == end[name]).all() == kept, name


def test_bitfit_changes_biases_and_head_alone(make_job, run):
    job = make_job()
    start, end = leaves(job.encoder.params), leaves(run(BitFit(**SHORT), job).params)
    for name in start:
        trained = name.endswith("/bias") or name.startswith("head")
        assert trained or (start[name] == end[name]).all(), name
    assert (start["layers/1/value/bias"] != end["layers/1/value/bias"]).any()


def test_lora_is_the_pretrained_matrix_and_a_product_of_its_rank(make_job, run):
    job = make_job()
    start, end = leaves(job.encoder.params), leaves(run(Lora(**SHORT, rank=2), job).params)
    for name in start:
        change = end[name] - start[name]
        if name.endswith(("query/kernel", "value/kernel")):
            singular = np.linalg.svd(change, compute_uv=False)
            assert singular[1] > 1e-6
            assert singular[2] < 1e-3 * singular[0]
        else:
            assert name.startswith("head") or not change.any(), name


def test_lora_exports_w_plus_ba(make_job):
    job = make_job()
    method = Lora(rank=2, scale=6.0)
    factors = method.factors(job)
    path = "layers/1/query/kernel"
    factors[f"{path}/b"] = jax.random.normal(jax.random.key(0), factors[f"{path}/b"].shape)
    weights = method.step(job).weights(factors, None, job.encoder.params)
    product = np.asarray(factors[f"{path}/a"]) @ np.asarray(factors[f"{path}/b"])
    expected = leaves(job.encoder.params)[path] + 3.0 * product
    np.testing.assert_allclose(leaves(weights)[path], expected, rtol=1e-5, atol=1e-6)


def test_sam_without_radius_is_plain(make_job, run, plain):
    assert distance(run(Sam(**SHORT, radius=0.0), make_job()).params, plain) < 1e-6


def test_sam_takes_the_gradient_at_the_worst_point():
    _, gradient = AtWorst(0.1)(jax.value_and_grad(lambda w: w["x"] ** 3))({"x": 2.0})
    assert gradient["x"] == pytest.approx(3 * 2.1**2)


def test_costs_are_counted(make_job):
    from blomix.recipe.drive import account

    job = make_job()  # 24 rows, batches of 8: 3 steps an epoch; folds of 12: 2 steps
    costs = {name: account(METHODS[name](**QUICK[name]).fit(job)) for name in METHODS}
    assert costs["plain"] == costs["mixout"] == costs["ema"] == (6, 6)
    assert costs["rdrop"] == costs["sam"] == costs["r3f"] == (6, 12)
    assert costs["soup"] == costs["wise_ft"] == (14, 14)
    search = 8 * ESTIMATORS["exact"].cost(1)
    assert costs["blomix"] == (14, pytest.approx(search + 6))
    assert costs["child_tuning"] == (6, 9)
    assert costs["probe"] == (0, 0)


def test_the_smallest_share_of_child_tuning_is_one_weight():
    weights = {"a": np.array([1.0, 3.0]), "b": np.array([[2.0]])}
    masks = greatest(weights, Leaves(frozenset({"a"})), share=1e-9)
    np.testing.assert_array_equal(masks["a"], [False, True])
    assert masks["b"].all()
