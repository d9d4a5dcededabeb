"""Mistakes in a study: one line each, and exit code 2."""

import pytest

from tests.bench.conftest import STUDY


@pytest.mark.parametrize(
    ("text", "variant", "message"),
    [
        ("sizes = [4]", 'method = "plain"', "'tasks'"),
        (STUDY, 'method = "plane"', "no method 'plane'"),
        (STUDY, 'method = "plain"\nspeed = 3', "no entry 'speed'"),
        (STUDY, 'method = "plain"\n[settings]\nspeed = 3', "no setting 'speed'"),
        (STUDY, 'method = "plain"\n[settings]\npatience = 2', "no examples out to stop early by"),
        (STUDY, 'method = "plain"\nmatch = "none"', "no variant 'none'"),
        ('from = ".."\n' + STUDY, 'method = "plain"', "from: expected list, found '..'"),
        ("from = [1]\n" + STUDY, 'method = "plain"', "a list of folders, found 1"),
        (
            'variants = ["plane"]\n' + STUDY,
            'method = "plain"',
            "no file plane.toml; there are plain",
        ),
        (STUDY, 'like = "none"', "like: expected a variant that is like no other, found 'none'"),
        (STUDY, 'like = "plain"', "like: expected a variant that is like no other, found 'plain'"),
        (STUDY, "method = ", "expected TOML"),
        (STUDY + "[tasks.films2]\nlength = 3", 'method = "plain"', "no entry 'length'"),
        (STUDY.replace("[11, 12]", "[11]"), 'method = "plain"', "subset_seeds"),
        (STUDY.replace("[12]", "[1000]"), 'method = "plain"', "1000"),
        (STUDY.replace("[12]", '["12"]'), 'method = "plain"', "sizes: expected whole numbers"),
        (STUDY.replace("[11, 12]", "[-1, 12]"), 'method = "plain"', "subset_seeds: expected"),
        (
            "tasks = {films = 1}\n" + STUDY.split("[settings]")[0],
            'method = "plain"',
            "tasks.films: expected a table",
        ),
        (STUDY + "[sweep]\nepochs = 2", 'method = "plain"', "sweep.epochs: expected a list"),
        (STUDY, 'method = "plain"\nmatch = "plain"', "plain -> plain"),
        (STUDY, 'method = "blomix"\nrecipe = "Paper"', "recipe: expected one of default, paper"),
        (STUDY, 'method = "plain"\nrecipe = "paper"', "is a setting of method 'blomix'"),
        (STUDY, 'method = "plain"\nmatch_by = "step"', "match_by: expected one of steps"),
        (STUDY, 'method = "plain"\n[settings]\nepochs = "3"', "epochs: expected a value of type"),
        (STUDY, 'method = "plain"\n[settings]\nepochs = true', "epochs: expected a value of type"),
        (STUDY, 'method = "plain"\n[model]\npoling = "mean"', "no option 'poling'"),
        (STUDY, 'method = "plain"\n[model]\npooling = 3', "pooling"),
        (STUDY, 'method = "plain"\n[model]\nregression = true', "no option 'regression'"),
        (STUDY.replace("[12]", "[12, 12]"), 'method = "plain"', "sizes: expected distinct values"),
        (STUDY.replace("[1, 2]", "[1, 9999999999]"), 'method = "plain"', "below 2^31"),
        (STUDY + "[sweep]\nepochs = [1, 1]", 'method = "plain"', "sweep.epochs: expected distinct"),
        ('against = ["plian"]\n' + STUDY, 'method = "plain"', "against: no variant 'plian'"),
        (STUDY.replace("rows = 8", "rows = 0"), 'method = "plain"', "validation_rows: expected"),
        (STUDY.replace("rows = 8", "rows = 30"), 'method = "plain"', "books: validation: expected"),
        (STUDY, 'method = "plain"\nseeds = 0', "seeds: expected whole numbers of at least 1"),
        ('against = [["plain"]]\n' + STUDY, 'method = "plain"', "against: no variant ['plain']"),
        ('variants = [["plain"]]\n' + STUDY, 'method = "plain"', "variants: no file"),
        (
            'chosen = "picked.toml"\n' + STUDY,
            'method = "plain"\nchosen_as = "none"',
            "chosen_as: no table 'none' in the study's chosen settings; there are other",
        ),
        (STUDY + "[tasks.films3]\nmax_length = -1", 'method = "plain"', "films3.max_length"),
        (STUDY.replace("max_length = 16", "max_length = 999", 1), 'method = "plain"', "999"),
        (STUDY + '[tasks."../films"]', 'method = "plain"', "a name that files can have"),
        (STUDY + "[tasks.sst2]", 'method = "plain"', "tasks.sst2: no folder"),
        ('from = ["../nowhere"]\n' + STUDY, 'method = "plain"', "expected a TOML file a variant"),
        (
            'against = ["plain"]\n' + STUDY + "[sweep]\nseed = [1]",
            'method = "plain"',
            "against: no variant 'plain'; there are plain@seed=1",
        ),
    ],
)
def test_mistakes_take_one_line(text, variant, message, study, blomix, tiny_model, data_root):
    folder = study(text, plain=variant)
    if "picked.toml" in text:
        (folder / "picked.toml").write_text("[other]\nlearning_rate = 1e-3")
    code, _, err = blomix("bench", folder, "--model", tiny_model, "--data", data_root)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_a_place_that_cannot_be_written_is_one_line(study, blomix, tiny_model, data_root, tmp_path):
    (tmp_path / "taken").symlink_to("nowhere/at/all")
    arguments = ("--model", tiny_model, "--data", data_root, "--results", tmp_path / "taken")
    code, _, err = blomix("bench", study(plain='method = "plain"'), *arguments)
    assert code == 2
    assert "cannot write the cells' results in" in err
    assert len(err.strip().splitlines()) == 1


def test_a_method_that_cannot_cost_as_much_is_refused(study, blomix, tiny_model, data_root):
    soup = 'method = "soup"\nmatch = "plain"\n[settings]\nfolds = 3\nsearch_epochs = 9'
    for name, text, found in (
        ("soup", soup, "found one that costs 54 beside its epochs, and 3 in each"),
        ("probe", 'method = "probe"\nmatch = "plain"', "and 0 in each"),
    ):
        folder = study(**{"plain": 'method = "plain"', name: text})
        code, _, err = blomix("bench", folder, "--model", tiny_model, "--data", data_root)
        assert code == 2
        assert f"{name}: match: expected a method that can cost 3 steps, as plain does" in err
        assert found in err
        (folder / f"{name}.toml").unlink()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "²/3"])
def test_a_shard_is_part_of_a_whole(shard, study, blomix):
    code, _, err = blomix("bench", study(), "--model", "x", "--shard", shard)
    assert code == 2
    assert "--shard" in err


def test_pairs_and_single_texts_of_one_task_are_not_mixed(study, blomix, tiny_model, data_root):
    (data_root / "films" / "train.csv").write_text(
        "premise,hypothesis,label\n" + "a film,good,positive\nanother,bad,negative\n" * 20
    )
    code, _, err = blomix("bench", study(), "--model", tiny_model, "--data", data_root)
    assert code == 2
    assert "expected pairs of texts, as the training examples are, found single texts" in err
