"""Whatever the flags or the settings file: the command starts, or one line and exit code 2."""

import importlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import RUNS, mutated

SETTINGS = {
    "label-kind": ["auto", "classes", "values"],
    "metric": ["auto", "mcc", "spearman", "ece"],
    "method": ["blomix", "plain", "probe", "lora"],
    "recipe": ["default", "paper", "released"],
    "epochs": ["3", "0.5", "nan", "-1", "1e999"],
    "batch-size": ["16", "0", "2.5"],
    "learning-rate": ["1e-4", "0", "inf"],
    "train-size": ["20", "-3", "10000"],
    "head-init": ["auto", "random", "probe"],
    "pooling": ["mean", "cls", "max"],
    "text": ["text", "txt", ""],
    "label": ["label", "\0"],
    "set": ["folds=3", "folds=", "=", "alpha_init=2", "unroll=0", "folds=1e9", "patience=none"],
    "max-length": ["16", "0", "99999999999999999999"],
    "mesh": ["data=1", "data=0", "model=x", "ensemble=9999"],
    "seed": ["0", "-1", "99999999999999999999"],
    "checkpoint-every": ["60", "-1", "nan"],
}
words = st.text(max_size=8) | st.sampled_from(["", "-", "--", "=", "None", "../..", "[", "{}"])
pairs = st.sampled_from(sorted(SETTINGS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(SETTINGS[name]) | words)
)


@pytest.fixture
def call(blomix, tiny_model, reviews, monkeypatch):
    """`blomix finetune --dry-run` up to the compilation of a step, which it stops short of."""
    module = importlib.import_module("blomix.recipe.finetune")
    monkeypatch.setattr(module, "dry_run", lambda *arguments, **options: {})

    def call(*flags):
        given = ("--model", tiny_model, "--train", reviews["train"], "--dry-run", "--json")
        code, out, err = blomix("finetune", *given, *flags)
        assert code in (0, 2)
        assert "Traceback" not in err
        assert (code == 0 and json.loads(out) == {}) or (err.strip() and not out)

    return call


@RUNS
@given(chosen=st.lists(pairs, max_size=4), stray=st.lists(words, max_size=1))
def test_flags(call, chosen, stray):
    call(*(part for name, value in chosen for part in (f"--{name}", value)), *stray)


def toml(chosen) -> bytes:
    lines = (f"{json.dumps(name)} = {json.dumps(value)}\n" for name, value in chosen)
    return "".join(lines).encode(errors="surrogatepass")


@RUNS
@given(content=mutated(st.lists(pairs, max_size=4).map(toml)))
def test_settings_files(call, tmp_path, content):
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    call("--config", path)
