"""A tiny encoder with a tiny task, and a way to run a method on it."""

import dataclasses

import numpy as np
import pytest

CONFIG = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.1,
}


@pytest.fixture(autouse=True)
def double_and_quick():
    """Float64: Adam divides gradients that should be 0 by their rounding, which float32 shows.

    Compiled without optimising: the models are so small that compiling is all the time.
    """
    import jax

    wanted = {"jax_enable_x64": True, "jax_disable_most_optimizations": True}
    before = {name: jax.config.read(name) for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def make_job():
    """`make_job(seed=0, dropout=0.0)`: 24 rows of 8 tokens whose label is in the second token."""
    from blomix.data import Examples
    from blomix.encoders import Encoder
    from blomix.recipe.job import Job

    def make(seed: int = 0, dropout: float = 0.0) -> Job:
        rng = np.random.default_rng(0)
        labels = np.arange(24) % 2
        ids = rng.integers(5, 40, (24, 8)).astype(np.int32)
        ids[:, 1] = 3 + labels
        texts = tuple(" ".join(map(str, row)) for row in ids)
        train = Examples(texts, labels=labels, label_names=("a", "b"))
        arrays = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "labels": labels.astype(np.int32),
        }
        encoder = Encoder.from_config(
            CONFIG, num_labels=2, seed=3, dropout=dropout, dtype="float64"
        )
        head = encoder.model.init_part("head", _key(seed))
        encoder = dataclasses.replace(encoder, params=encoder.params | {"head": head})
        return Job(encoder, train, arrays, seed, max_length=8)

    return make


def _key(seed: int):
    import jax

    return jax.random.key(seed)


@pytest.fixture
def run():
    """`run(method, job) -> Fitted`; `run(methods, jobs)` trains them in one compiled step."""
    from blomix.recipe.drive import drive
    from blomix.recipe.phase import Unrecorded
    from blomix.recipe.progress import Progress

    def call(methods, jobs):
        many = isinstance(jobs, list)
        if not many:
            methods, jobs = [methods], [jobs]
        fits = [method.fit(job) for method, job in zip(methods, jobs, strict=True)]
        fitted, _, _ = drive(fits, Unrecorded(), Progress(quiet=True), width=len(fits))
        return fitted if many else fitted[0]

    return call
