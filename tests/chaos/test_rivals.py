"""Methods of several phases, stopped by a signal in each of them, end as if nothing had been."""

import signal

import pytest
from kill import outcome

from tests.conftest import write_model, write_reviews


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small encoder, training and scored examples."""
    from blomix.data import load
    from blomix.encoders import Encoder

    files = write_reviews(tmp_path_factory.mktemp("data"))
    folder = tmp_path_factory.mktemp("model")
    train = load(files["train"])
    validation = load(files["validation"], **train.kind)
    return Encoder.from_pretrained(write_model(folder, layers=1), **train.head), train, validation


def interrupted_at(monkeypatch, line: int) -> None:
    """SIGTERM comes when the run writes that line of metrics.jsonl, counted in this session."""
    from blomix.runs import Run

    plain, written = Run.log, iter(range(10**6))

    def log(run, record):
        plain(run, record)
        if next(written) == line:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Run, "log", log)


@pytest.mark.parametrize(
    ("method", "settings", "phases"),
    [
        ("child_tuning", {}, 2),  # Fisher information, then training with a mask from it
        ("soup", {"folds": 2, "search_epochs": 2}, 3),  # two folds, then training from their mean
        ("plain", {"finishes": 2}, 2),  # a lane each
        ("ema", {"epochs": 2, "patience": 9, "batch_size": 4}, 2),  # an epoch a phase
    ],
)
def test_a_method_stopped_in_every_phase(made, tmp_path, monkeypatch, method, settings, phases):
    from blomix.baselines import METHODS
    from blomix.recipe import finetune
    from blomix.runs import Interrupted

    model, *data = made
    settings = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3} | settings
    recipe = METHODS[method](**settings)

    def run(name):
        finetune(model, *data, recipe, run_dir=tmp_path / name, quiet=True)

    run("unbroken")
    expected = outcome(tmp_path / "unbroken")
    assert expected["phases"] == phases
    finals = []
    while True:
        with monkeypatch.context() as patch:
            interrupted_at(patch, 2)
            try:
                run("broken")
            except Interrupted:
                finals.append(len(list((tmp_path / "broken").glob("checkpoints/**/final"))))
                continue
        break
    assert set(finals) == set(range(phases))
    assert outcome(tmp_path / "broken") == expected


@pytest.mark.parametrize("changed", ["weights", "tokens"])
def test_another_encoder_in_the_same_place_is_refused(made, tmp_path, changed):
    """A half-done search would go on from other pretrained weights, or on other tokens."""
    from safetensors.numpy import load_file, save_file

    from blomix.baselines import METHODS
    from blomix.encoders import Encoder
    from blomix.errors import InputError
    from blomix.recipe import finetune

    _, train, validation = made
    folder = write_model(tmp_path / "model", layers=1)

    def run():
        model = Encoder.from_pretrained(folder, **train.head)
        finetune(model, train, validation, METHODS["probe"](), run_dir=tmp_path / "run", quiet=True)

    run()
    if changed == "weights":
        tensors = load_file(folder / "model.safetensors")
        tensors["bert.pooler.dense.bias"] += 1
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        tokenizer = (folder / "tokenizer.json").read_text()
        swapped = tokenizer.replace('"film"', '"song?"').replace('"song"', '"film"')
        (folder / "tokenizer.json").write_text(swapped.replace('"song?"', '"song"'))
    with pytest.raises(InputError, match=f'(?s)other data or weights.*{changed}: "'):
        run()
