"""The recipe's parts against known answers."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from blomix import BilevelProblem, Encoder, InputError, Mixup, Recipe
from blomix.baselines import LpFt, Soup
from blomix.data import encode, examples_of, load
from blomix.recipe import Training
from blomix.recipe.artifacts import mixable
from blomix.recipe.drive import drive
from blomix.recipe.finetune import resolve
from blomix.recipe.job import batches_by_length, predict_logits
from blomix.recipe.optimization import cosine, scheduled, warmup_linear
from blomix.recipe.phase import Unrecorded
from blomix.recipe.preparation import job_of
from blomix.recipe.probe import fit_probe, head_of, start_params
from blomix.recipe.progress import Progress
from blomix.recipe.recipe import HYPERGRADIENTS, pulled
from blomix.recipe.training import mean


@pytest.fixture(scope="module")
def job(tiny_model, reviews):
    train = load(reviews["train"])
    encoder = Encoder.from_pretrained(tiny_model, num_labels=2, label_names=train.label_names)
    return job_of(encoder, train, Training(), seed=3, max_length=32)


def rates(rate, count):
    """The step sizes that descending a constant gradient of 1 takes."""
    import optax

    optimizer = scheduled(optax.identity(), rate)
    params = jnp.zeros(())
    state, found = optimizer.init(params), []
    for _ in range(count):
        update, state = optimizer.update(jnp.ones(()), state, params)
        found.append(-float(update))
    return found


def test_rate_rises_then_falls_to_zero():
    found = rates(warmup_linear(1.0, steps=10, warmup=0.2), 11)
    expected = [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_cosine_is_half_way_down_at_half_time():
    assert float(cosine(jnp.asarray(0.5))) == pytest.approx(0.5)
    assert float(cosine(jnp.asarray(1.0))) == pytest.approx(0.0, abs=1e-7)


def test_batches_of_an_epoch_hold_every_row_and_depend_on_nothing_but_the_step(job):
    per_epoch = job.steps(1, batch_size=8)
    rows = np.concatenate([job.rows("finetune", t, 8) for t in range(per_epoch)])
    assert set(rows) == set(range(len(job)))
    np.testing.assert_array_equal(job.rows("finetune", 2, 8), rows[16:24])
    assert (job.rows("inner 0", 0, 8) != job.rows("inner 1", 0, 8)).any()


def test_folds_partition_the_examples(job):
    splits = Recipe(folds=4).splits(job)
    outer = np.concatenate([outer for _, outer in splits])
    assert sorted(outer) == list(range(len(job)))
    for inner, outer in splits:
        assert set(inner) == set(range(len(job))) - set(outer)
        assert abs(job.train.targets[outer].mean() - job.train.targets.mean()) < 0.15


def test_mean_keeps_the_factors_of_a_low_rank_alpha():
    found = mean([{"row": jnp.array([1.0, 0.0])}, {"row": jnp.array([0.0, 0.5])}])
    np.testing.assert_allclose(found["row"], [0.5, 0.25])


@pytest.mark.parametrize("average", ["all", "alpha"])
def test_finetuning_starts_from_the_average_that_is_asked_for(job, average):
    recipe = Recipe(folds=2, average=average, head_init="random")
    fit = recipe.fit(job)
    search = next(fit)
    found = [search.result(lane()) for lane in search.lanes]
    moved = [
        (jax.tree.map(lambda x, by=by: x + by, task), jax.tree.map(lambda x, by=by: x - by, alpha))
        for by, (task, alpha) in zip((0.1, 0.3), found, strict=True)
    ]
    start = fit.send(moved).lanes[0]()
    first, second = (task for task, _ in moved)
    expected = mean([first, second]) if average == "all" else start_params(job, "random")
    jax.tree.map(np.testing.assert_array_equal, start.params, expected)
    jax.tree.map(np.testing.assert_array_equal, start.extra, mean([alpha for _, alpha in moved]))


@pytest.mark.parametrize("granularity", ["rank1", "layer"])
def test_every_mixed_matrix_has_the_share_that_the_search_ended_with(
    job, granularity, quick_to_compile
):
    start = {"alpha_init": 0.5, "alpha_noise": 0.2, "head_init": "random"}
    recipe = Recipe(folds=1, granularity=granularity, hypergradient="first_order", **start)
    recorder = Unrecorded()
    (fitted,), _, _ = drive([recipe.fit(job)], recorder, Progress(quiet=True))
    assert fitted.shares.keys() == mixable(job.encoder).keys()
    last = [record["shares"] for record in recorder.records if "shares" in record][-1]
    means = [share.mean() for share in fitted.shares.values()]
    np.testing.assert_allclose(means, last, rtol=1e-5)
    assert len(set(means)) > 1


def pull_of(mixup, l1, l2, alpha):
    """The gradient that `pulled` adds, of which Adam's first moment has a tenth."""
    optimizer = pulled(mixup, l1, l2)
    zero = jax.tree.map(jnp.zeros_like, alpha)
    _, state = optimizer.update(zero, optimizer.init(alpha), alpha)
    [adam] = [one for one in jax.tree.leaves(state, is_leaf=has_moments) if has_moments(one)]
    return jax.tree.map(lambda moment: moment / 0.1, adam.mu)


def has_moments(state):
    return hasattr(state, "mu")


def test_pull_moves_alpha_toward_the_pretrained_side():
    mixup = Mixup(granularity="full", init=0.8)
    alpha = mixup.init(jax.random.key(0), {"w": jnp.ones((2, 3))})
    for l1, l2 in ((1.0, 0.0), (0.0, 1.0)):
        optimizer = pulled(mixup, l1, l2)
        zero = jax.tree.map(jnp.zeros_like, alpha)
        direction, _ = optimizer.update(zero, optimizer.init(alpha), alpha)
        # A direction is descended along, so pulling toward 0 is a positive one.
        assert (direction["w"] > 0).all()


def test_the_pull_of_a_stack_is_that_of_its_layers():
    mixup = Mixup(granularity="full", init=0.8)
    one = mixup.init(jax.random.key(0), {"w": jnp.ones((2, 3))})
    stack = mixup.init(jax.random.key(0), {"w": jnp.ones((4, 2, 3))})
    shares = jax.tree.map(lambda x: x[0] if x.ndim == 3 else x, stack)
    assert jax.tree.map(jnp.shape, shares) == jax.tree.map(jnp.shape, one)
    found = [pull_of(mixup, 0.5, 0.25, alpha)["w"] for alpha in (one, stack)]
    np.testing.assert_allclose(found[1], np.stack([found[0]] * 4), rtol=1e-6)
    np.testing.assert_allclose(found[0], (0.5 + 0.25 * 2 * 0.8) / 6, rtol=1e-5)


@pytest.mark.parametrize("fold", [False, True])
def test_a_new_head_for_values_starts_at_their_mean_and_scale(job, fold):
    values = 50 + 20 * np.random.default_rng(0).normal(size=len(job))
    encoder = Encoder.from_config(
        job.encoder.config, num_labels=1, regression=True, pooling=job.encoder.pooling
    )
    new = dataclasses.replace(encoder, new=frozenset({"head"}))
    train = dataclasses.replace(job.train, labels=values, label_names=None)
    rows = np.arange(4) if fold else None
    own = values[:4] if fold else values
    for owner in (new, encoder):  # the second came with its head
        valued = dataclasses.replace(job, encoder=owner, train=train)
        head = start_params(valued, "random", rows=rows)["head"]
        scale, mean = (
            (own.std(), own.mean()) if owner is new else (1, encoder.params["head"]["bias"])
        )
        np.testing.assert_allclose(head["bias"], mean, rtol=1e-6)
        np.testing.assert_allclose(
            head["kernel"], encoder.params["head"]["kernel"] * scale, rtol=1e-5
        )
        head = start_params(valued, "probe", 0.1, rows)["head"]
        np.testing.assert_array_equal(head["kernel"], fit_probe(valued, rows)[0])


def test_statistics_of_half_precision_features_are_not_summed_in_it(job, monkeypatch):
    features = np.random.default_rng(0).normal(0.5, 0.1, (2000, 4)).astype(jnp.bfloat16)
    monkeypatch.setattr("blomix.recipe.job.predict_logits", lambda *_, **__: features)
    found = dataclasses.replace(job).features
    np.testing.assert_allclose(found.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(found.std(0), 0.1, atol=0.01)


def test_the_head_of_pairs_is_the_seed_s_and_of_single_texts_the_probe_s(job):
    assert Recipe().head_init == "auto"
    pairs = dataclasses.replace(job, train=dataclasses.replace(job.train, pairs=job.train.texts))
    for own, expected, other in ((job, "probe", "random"), (pairs, "random", "probe")):
        found = start_params(own, "auto")["head"]["kernel"]
        np.testing.assert_array_equal(found, start_params(own, expected)["head"]["kernel"])
        assert not np.array_equal(found, start_params(own, other)["head"]["kernel"])
        told = resolve(own, Recipe(), together=False)["recipe"]["head_init"]
        assert told == head_of("auto", own.train) == expected
        assert head_of(other, own.train) == other


def test_probe_head_is_the_regression_on_frozen_features(job):
    from sklearn.linear_model import LogisticRegression

    features = predict_logits(job.encoder, job.encoder.params, job.arrays, method="pooled")
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
    expected = LogisticRegression(C=0.01, max_iter=5000).fit(scaled, job.train.targets)
    logits = predict_logits(job.encoder, start_params(job, "probe"), job.arrays)
    found = jax.nn.softmax(logits)[:, 1]
    np.testing.assert_allclose(found, expected.predict_proba(scaled)[:, 1], atol=1e-4)


def test_the_probe_s_logits_are_scaled(job):
    def logits(params):
        return predict_logits(job.encoder, params, job.arrays)

    for kind in (LpFt, Recipe, Soup):
        whole, tenth = (logits(kind(head_scale=scale).start(job)) for scale in (1.0, 0.1))
        np.testing.assert_allclose(tenth, whole / 10, atol=1e-5)
        np.testing.assert_array_equal(logits(kind().start(job)), whole)
    random = LpFt(head_init="random", head_scale=0.1).start(job)["head"]["kernel"]
    np.testing.assert_array_equal(random, job.encoder.params["head"]["kernel"])


def test_the_head_of_a_fold_has_not_seen_its_outer_split(job):
    recipe = Recipe(folds=3)
    starts = recipe.starts(job)
    heads = [np.asarray(start["head"]["kernel"]) for start in starts]
    for lane, (_, outer) in enumerate(recipe.splits(job)):
        labels = job.train.targets.copy()
        labels[outer] = 1 - labels[outer]
        other = dataclasses.replace(job, train=dataclasses.replace(job.train, labels=labels))
        inner = np.setdiff1d(np.arange(len(job)), outer)
        np.testing.assert_array_equal(recipe.start(other, inner)["head"]["kernel"], heads[lane])
        assert not np.array_equal(recipe.start(other)["head"]["kernel"], heads[lane])
    leaky = dataclasses.replace(recipe, head_rows="all").starts(job)
    for start in leaky:
        np.testing.assert_array_equal(start["head"]["kernel"], recipe.start(job)["head"]["kernel"])
    # Alpha's first hypergradient is taken at these heads.
    phase = recipe.search(job, recipe.mixup(job))
    for lane, head in zip(phase.lanes, heads, strict=True):
        np.testing.assert_array_equal(lane().task["head"]["kernel"], head)


def test_a_probe_of_rows_without_a_class_tells_the_others_apart(job, tiny_model):
    rows = {label: np.flatnonzero(job.train.targets == label) for label in (0, 1)}
    weights, bias = fit_probe(job, rows[0])
    assert not weights.any()
    assert not bias.any()
    encoder = Encoder.from_pretrained(tiny_model, num_labels=3)
    names = (*job.train.label_names, "neither")
    train = dataclasses.replace(job.train, label_names=names)
    of_three = dataclasses.replace(job, encoder=encoder, train=train)
    # The features too are the same, so that the fit is to the bit.
    of_three.__dict__["features"] = job.features
    (weights, bias), (expected, _) = fit_probe(of_three), fit_probe(job)
    np.testing.assert_array_equal(weights[:, :2], expected)
    assert not weights[:, 2].any()
    logits = job.features @ weights + bias
    assert (logits.argmax(1) < 2).all()


def test_patience_stops_early_and_keeps_the_best_epoch(tiny_model, reviews):
    train = load(reviews["train"])
    encoder = Encoder.from_pretrained(tiny_model, num_labels=2, label_names=train.label_names)
    method = Training(epochs=12, batch_size=8, learning_rate=1e-9, patience=2)
    job = job_of(encoder, train, method, seed=3, max_length=32)
    assert job.held is not None
    assert not set(job.held.digests) & set(job.train.digests)
    recorder = Unrecorded()
    (fitted,), steps, _ = drive([method.fit(job)], recorder, Progress(quiet=True))
    # Nothing is learned at this rate: the first epoch stays the best and two more follow.
    assert steps == len(recorder.records) == 3 * job.steps(1, 8)
    assert job.score(fitted.params) == job.score(encoder.params)


def test_finishes_are_averaged_and_the_first_is_the_only_one_of_a_run_without(job):
    def run(finishes, width=1):
        recipe = Training(epochs=2, batch_size=8, learning_rate=1e-3, finishes=finishes)
        recorder = Unrecorded()
        fits = [recipe.fit(job)]
        (fitted,), steps, gradients = drive(fits, recorder, Progress(quiet=True), width)
        assert steps == gradients == finishes * job.steps(2, 8)
        return fitted.params, recorder.records

    one, alone = run(1)
    two, records = run(2)
    first = [record for record in records if record["lane"] == 0]
    second = [record for record in records if record["lane"] == 1]
    assert first == alone
    assert [record["loss"] for record in second] != [record["loss"] for record in first]
    streams = Training(finishes=2).streams
    assert (job.rows(streams[0], 0, 8) != job.rows(streams[1], 0, 8)).any()
    # The other finish, from what its own stream says, and the mean of both.
    alone = Training(epochs=2, batch_size=8, learning_rate=1e-3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "streams", streams[1:])
        (other,), _, _ = drive([alone.fit(job)], Unrecorded(), Progress(quiet=True))
    expected = jax.tree.map(lambda a, b: (a + b) / 2, one, other.params)
    jax.tree.map(np.testing.assert_array_equal, two, expected)
    together, _ = run(2, width=2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), together, two)


def test_shares_of_several_finishes_are_averaged_as_their_weights_are(job):
    step = dataclasses.replace(Training().step(job), shares=lambda extra: {"w": extra})
    training = Training(finishes=2).train(job, step, {"w": 0.0}, np.zeros(2))
    next(training)
    ends = [({"w": np.array(value)}, np.array([value, 1.0])) for value in (1.0, 3.0)]
    with pytest.raises(StopIteration) as stopped:
        training.send(ends)
    fitted = stopped.value.value
    assert fitted.params["w"] == 2.0
    np.testing.assert_array_equal(fitted.shares["w"], [2.0, 1.0])


def test_patience_scores_the_average_of_several_finishes(tiny_model, reviews):
    train = load(reviews["train"])
    encoder = Encoder.from_pretrained(tiny_model, num_labels=2, label_names=train.label_names)

    def run(patience):
        method = Training(epochs=2, batch_size=8, learning_rate=1e-3, finishes=2, patience=patience)
        job = job_of(encoder, train, dataclasses.replace(method, patience=9), seed=3, max_length=32)
        scored = []
        with pytest.MonkeyPatch.context() as patch:
            score = type(job).score
            patch.setattr(type(job), "score", lambda *of: scored.append(of[1]) or score(*of))
            fitted, steps, _ = drive([method.fit(job)], Unrecorded(), Progress(quiet=True))
        assert steps == 2 * job.steps(2, 8)
        return fitted[0].params, scored

    whole, _ = run(None)
    _, scored = run(9)
    assert len(scored) == 2  # an epoch each
    jax.tree.map(np.testing.assert_array_equal, scored[-1], whole)


def test_tokens_are_cut_to_a_multiple_of_16(job):
    assert job.arrays["input_ids"].shape[1] == 16
    long = dataclasses.replace(job.train, texts=("good " * 40,) * len(job))
    assert encode(long, job.encoder.tokenizer, 40)["input_ids"].shape[1] == 40


@pytest.mark.parametrize(
    ("of_tokenizer", "asked", "message"),
    [
        (None, 200, "8 to 128 tokens, which is what the encoder has positions for, found 200"),
        (64, 100, "8 to 64 tokens, which is what the tokenizer allows, found 100"),
        (None, 32.0, "found 32.0"),
    ],
)
def test_a_length_beyond_the_encoder_is_refused_whatever_the_texts(
    tiny_model, tmp_path, of_tokenizer, asked, message
):
    """Short texts would train with it, and the first long one would break what came of it."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"model_max_length": of_tokenizer}
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    with pytest.raises(InputError, match=message):
        Encoder.from_pretrained(folder, num_labels=2).encode(examples_of((["good"], None)), asked)


@pytest.mark.parametrize("n", [1, 63, 64, 200])
@pytest.mark.parametrize("left", [False, True])
def test_rows_of_like_length_share_a_batch_and_lose_no_token(n, left):
    rng = np.random.default_rng(n)
    lengths = rng.integers(1, 97, n)
    mask = (np.arange(96) < lengths[:, None]).astype(np.int32)
    mask = mask[:, ::-1] if left else mask
    batches = list(batches_by_length(mask))
    assert {len(rows) for rows, _ in batches} == {64}
    assert len(batches) == -(-n // 64)
    assert set(np.concatenate([rows for rows, _ in batches])) == set(range(n))
    for rows, width in batches:
        assert width in (16, 32, 64, 96)
        assert not mask[rows, width:].any()
        assert left or width == 16 or mask[rows, width // 2 if width < 96 else 64 :].any()


def test_one_long_text_makes_no_other_wider(job):
    texts = examples_of((("good film " * 20, *job.train.texts * 3), None))
    arrays = job.encoder.encode(texts, 48)
    assert arrays["input_ids"].shape[1] == 48
    widths = {width for _, width in batches_by_length(arrays["attention_mask"])}
    assert widths == {16, 48}
    found = predict_logits(job.encoder, job.encoder.params, arrays)
    expected = job.encoder.apply(job.encoder.params, arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", HYPERGRADIENTS)
def test_every_estimator_is_a_setting_of_the_recipe(job, name):
    recipe = Recipe(hypergradient=name, unroll=2)
    problem = recipe.problem(job, recipe.mixup(job), inner_steps=4)
    assert isinstance(problem, BilevelProblem)
    assert problem.gradients >= 1 + recipe.unroll


@pytest.mark.parametrize(
    ("field", "value"),
    [("folds", 0), ("alpha_init", 1.5), ("average", "none"), ("formula", "sum"), ("epochs", -1)],
)
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(InputError, match=field):
        Recipe(**{field: value})
