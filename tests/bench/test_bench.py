"""Studies through the command line."""

import fcntl
import json
import re
from pathlib import Path

import pytest

from blomix.bench import read_study
from blomix.bench.runner import Bench
from blomix.hypergradient import ESTIMATORS
from blomix.recipe import drive
from tests.bench.conftest import STUDY, cells

NUMBERS = (
    "score",
    "metrics",
    "steps",
    "gradient_evaluations",
    "majority_score",
    "digests",
    "facts",
)


def test_the_study_that_the_document_describes_is_one(study):
    text = (Path(__file__).parents[2] / "docs/studies.md").read_text()
    whole, plain, recipe, low = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    found = read_study(study(whole, plain=plain, recipe=recipe, low=low))
    assert len(found.cells()) == 2 * 2 * 3 * 5  # tasks, sizes, variants, seeds
    assert (found.variants["plain"].match, found.variants["plain"].match_by) == ("recipe", "steps")
    assert found.variants["low"].settings == {"batch_size": 16, "learning_rate": 2e-5}


def test_a_grid_is_run_skipped_and_rerun_to_the_bit(study, bench):
    folder = study(plain='method = "plain"', soup='method = "soup"\nsettings = {folds = 2}')
    assert bench(folder, "--width", 2) == {"cells": 8, "finished": 8, "failed": 0}
    first = cells(folder)
    assert len(first) == 8
    record = first["plain/films-12-1.json"]
    assert record["seed"] == 1
    assert record["subset_seed"] == 11
    assert record["n"] == 12
    assert record["metric"] == "accuracy"
    assert 0 <= record["score"] <= 1
    assert record["steps"] == record["gradient_evaluations"] == 3
    assert record["scored_rows"] == 8
    assert record["config"]["width"] == 2
    assert record["environment"]["versions"]["jax"]
    # A run at the same folder touches nothing; a cell that is deleted comes back the same.
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    bench(folder, "--width", 2)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == stamps
    (folder / "results" / "soup" / "films-12-2.json").unlink()
    bench(folder, "--width", 2)
    again = cells(folder)
    for path, record in first.items():
        assert [again[path][name] for name in NUMBERS] == [record[name] for name in NUMBERS], path


def test_seeds_of_subset_and_start_are_separate(study, bench):
    text = STUDY.replace("subset_seeds = [11, 12]", "subset_seeds = [11, 11]")
    folder = study(text)
    bench(folder, "--select", "plain/films/*")
    one, two = cells(folder).values()
    assert one["digests"] == two["digests"]
    assert one["metrics"]["ece"] != two["metrics"]["ece"]


def test_a_changed_setting_runs_its_cells_again(study, bench):
    folder = study(STUDY.replace("seeds = [1, 2]\nsubset_seeds = [11, 12]", "seeds = [1]"))
    bench(folder, "--select", "*/films/*")
    study(
        STUDY.replace("seeds = [1, 2]\nsubset_seeds = [11, 12]", "seeds = [1]"),
        plain='method = "plain"\n[settings]\nepochs = 2',
    )
    bench(folder, "--select", "*/films/*")
    (record,) = cells(folder).values()
    assert record["steps"] == 6


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        (STUDY.replace("[11, 12]", "[13, 14]"), 'method = "plain"'),
        (STUDY, 'method = "lp_ft"\n[settings]\nhead_init = "random"'),  # plain, by its settings
    ],
)
def test_cells_of_another_subset_or_method_run_again(text, variant, study, bench):
    folder = study()
    bench(folder, "--width", 2)
    before = cells(folder)
    study(text, plain=variant)
    bench(folder, "--select", "*/films/12", "--width", 2)
    changed = [path for path, record in cells(folder).items() if record != before[path]]
    assert changed == ["plain/films-12-1.json", "plain/films-12-2.json"]
    found = bench(folder, "--summarize")
    assert (found["cells"], found["stale"]) == (2, 2)


def test_a_setting_that_came_later_leaves_cells_as_they_are_but_where_it_is_used(study, bench):
    folder = study()
    bench(folder, "--select", "*/films/12", "--width", 2)
    for path in cells(folder):
        record = json.loads((folder / "results" / path).read_text())
        del record["config"]["method"]["finishes"]
        (folder / "results" / path).write_text(json.dumps(record))
    before = cells(folder)
    bench(folder, "--select", "*/films/12", "--width", 2)
    assert cells(folder) == before
    assert bench(folder, "--summarize")["stale"] == 0
    study(plain='method = "plain"\n[settings]\nfinishes = 2')
    bench(folder, "--select", "*/films/12", "--width", 2)
    assert [record["steps"] for record in cells(folder).values()] == [6, 6]


def test_a_cell_says_which_head_auto_was(study, bench, data_root):
    """So that it is a cell of that head too, and of no other."""
    for split in ("train", "validation"):
        lines = (data_root / f"films/{split}.csv").read_text().splitlines()
        paired = ["text,text_pair,label", *(f"a b,{line}" for line in lines[1:])]
        (data_root / f"films/{split}.csv").write_text("\n".join(paired))
    short = STUDY.replace("seeds = [1, 2]\nsubset_seeds = [11, 12]", "seeds = [1]")
    soup = 'method = "soup"\n[settings]\nfolds = 2\n'
    folder = study(short, soup=soup)
    bench(folder)
    heads = {path: cell["config"]["method"]["head_init"] for path, cell in cells(folder).items()}
    assert heads == {"soup/books-12-1.json": "probe", "soup/films-12-1.json": "random"}
    assert bench(folder, "--summarize")["stale"] == 0
    for head in ("random", "probe"):
        study(short, soup=f'{soup}head_init = "{head}"')
        assert bench(folder, "--summarize")["stale"] == 1


def test_a_cell_that_matches_a_cost_of_before_is_not_counted(study, bench):
    longer = 'match = "plain"\nmethod = "lp_ft"'
    folder = study(plain='method = "plain"', longer=longer)
    bench(folder, "--select", "*/films/12", "--width", 2)
    assert bench(folder, "--summarize")["stale"] == 0
    study(plain='method = "plain"\n[settings]\nepochs = 2', longer=longer)
    assert bench(folder, "--summarize")["stale"] == 2  # of plain; the cost of the new ones unknown
    bench(folder, "--select", "plain/films/12", "--width", 2)
    found = bench(folder, "--summarize")
    assert (found["cells"], found["failed"], found["stale"]) == (2, 0, 2)


def test_cells_of_another_encoder_are_not_written_over(
    study, bench, blomix, tiny_model, data_root, tmp_path
):
    folder = study()
    bench(folder, "--select", "*/films/12", "--width", 2)
    before = cells(folder)
    (tmp_path / "other").symlink_to(tiny_model)
    place = ("--model", tmp_path / "other", "--data", data_root)
    code, _, err = blomix("bench", folder, *place, "--width", 2)
    assert code == 2
    assert "give --results another folder" in err
    assert cells(folder) == before
    path, record = next(iter(before.items()))
    record["digests"]["weights"] = "0" * 16  # as if the directory's weights were others now
    (folder / "results" / path).write_text(json.dumps(record))
    place = ("--model", tiny_model, "--data", data_root)
    code, _, err = blomix("bench", folder, *place, "--width", 2)
    assert code == 2
    assert "one of other weights" in err


def test_a_failure_is_recorded_counted_and_tried_again_on_demand(study, bench):
    broken = 'method = "lora"\n[settings]\nmatrices = "no such"'
    folder = study(plain='method = "plain"', broken=broken)
    found = bench(folder, "--select", "*/films/12", "--width", 2)
    assert found == {"cells": 4, "finished": 2, "failed": 2}
    record = cells(folder)["broken/films-12-1.json"]
    assert "no such" in record["error"]
    assert record["score"] is None
    assert record["majority_score"] > 0
    assert bench(folder, "--summarize")["failed"] == 2
    again = bench(folder, "--select", "*/films/12", "--width", 2, "--retry")
    assert again == {"cells": 4, "finished": 2, "failed": 2}
    study(plain='method = "plain"', broken='method = "lora"')
    assert bench(folder, "--select", "*/films/12", "--retry")["failed"] == 0


def test_cells_that_do_not_fit_together_take_fewer_lanes_a_step(study, bench, monkeypatch):
    def check_fits(program, name):
        if program.bytes > 1.5 * one:
            raise MemoryError

    folder = study(plain='method = "plain"')
    asked: list[int] = []
    monkeypatch.setattr(drive, "check_fits", lambda program, name: asked.append(program.bytes))
    bench(folder, "--select", "*/films/12")
    (one,) = set(asked)
    alone = cells(folder)
    monkeypatch.setattr(drive, "check_fits", check_fits)
    assert bench(folder, "--select", "*/films/12", "--width", 2)["failed"] == 0
    for path, record in cells(folder).items():
        assert (record["config"]["width"], record["cells"], record["lanes"]) == (2, 2, 1)
        assert record["metrics"] == alone[path]["metrics"]


def test_matched_variants_take_as_many_steps_or_gradients(study, bench):
    folder = study(
        paper='method = "blomix"\nrecipe = "paper"\n[settings]\nfolds = 2\nsearch_epochs = 1\n'
        'hypergradient = "first_order"',
        steps='method = "plain"\nmatch = "paper"',
        gradients='method = "plain"\nmatch = "paper"\nmatch_by = "gradients"',
    )
    bench(folder, "--select", "*/films/*")
    found = cells(folder)
    paper = found["paper/films-12-1.json"]
    assert found["steps/films-12-1.json"]["steps"] == paper["steps"] == 2 * 2 + 3
    matched = found["gradients/films-12-1.json"]
    search = 4 * ESTIMATORS["first_order"].cost(1)
    assert paper["gradient_evaluations"] == pytest.approx(search + 3)
    assert matched["gradient_evaluations"] == round(search + 3)
    assert paper["facts"]["mean_share"] > 0.9


def test_what_a_method_costs_beside_its_epochs_is_matched_too(study, bench):
    """Folds, a Fisher epoch and passes that are taken twice, against 12 steps of plain."""
    folder = study(
        plain='method = "plain"\n[settings]\nepochs = 4',
        soup='method = "soup"\nmatch = "plain"\n[settings]\nfolds = 2\nsearch_epochs = 1',
        child='method = "child_tuning"\nmatch = "plain"\nmatch_by = "gradients"',
        sam='method = "sam"\nmatch = "plain"\nmatch_by = "gradients"',
    )
    bench(folder, "--select", "*/films/*", "--width", 2)
    costs = {
        path.split("/")[0]: (record["steps"], record["gradient_evaluations"])
        for path, record in cells(folder).items()
    }
    expected = {"plain": (12, 12), "soup": (12, 12), "child": (9, 12), "sam": (6, 12)}
    assert costs == expected
    assert bench(folder, "--summarize")["stale"] == 0


def test_a_variant_matches_another_at_the_same_point_of_a_sweep(study, bench):
    text = STUDY.replace("epochs = 1\n", "") + "[sweep]\nepochs = [1, 2]\n"
    folder = study(text, plain='method = "plain"', same='method = "lp_ft"\nmatch = "plain"')
    bench(folder, "--select", "*/films/*", "--width", 2)
    steps = {path.split("/")[0]: record["steps"] for path, record in cells(folder).items()}
    assert steps["same@epochs=1"] == steps["plain@epochs=1"] == 3
    assert steps["same@epochs=2"] == steps["plain@epochs=2"] == 6


def test_cells_of_other_rows_run_again_and_are_not_pooled(study, bench, blomix, data_root):
    folder = study()
    bench(folder, "--select", "*/films/12", "--width", 2)
    before = cells(folder)
    scored = data_root / "films" / "validation.csv"
    scored.write_text("".join(scored.read_text().splitlines(keepends=True)[:-12]))
    one = "plain/films-12-1.json"
    bench(folder, "--select", "*/films/12", "--width", 2)
    after = cells(folder)
    assert after[one]["scored_rows"] < before[one]["scored_rows"]
    assert bench(folder, "--summarize")["cells"] == 2
    (folder / "results" / one).write_text(json.dumps(before[one]))
    code, _, err = blomix("bench", folder, "--summarize")
    assert code == 2
    assert "films: expected cells that were scored on the same rows, found 2 sets" in err


def test_a_failed_cell_costs_what_its_other_seeds_do(study, bench):
    folder = study()
    bench(folder, "--select", "*/films/12", "--width", 2)
    for seed, gradients in ((1, "3.0"), (2, "nan")):
        path = folder / "results" / "plain" / f"films-12-{seed}.json"
        record = json.loads(path.read_text())
        unknown = dict.fromkeys(("score", "steps", "gradient_evaluations", "seconds"))
        path.write_text(json.dumps(record | unknown | {"error": "broke"}))
        assert bench(folder, "--summarize")["failed"] == seed
        header, row = (line.split(",") for line in (folder / "results.csv").read_text().split())
        assert row[header.index("gradient_evaluations")] == gradients


def test_what_a_neighbour_has_stands_where_it_fails_beside_one_that_is_missing(study, bench):
    folder = study()
    flags = ("--select", "*/films/12", "--width", 2)
    bench(folder, *flags)
    missing = folder / "results" / "plain" / "films-12-1.json"
    before = cells(folder)
    missing.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "train", lambda *_: 1 / 0)
        assert bench(folder, *flags) == {"cells": 2, "finished": 1, "failed": 1}
    after = cells(folder)
    assert after["plain/films-12-2.json"] == before["plain/films-12-2.json"]
    assert "ZeroDivisionError" in after["plain/films-12-1.json"]["error"]


def test_stale_cells_are_not_counted_as_finished(study, bench):
    folder = study()
    bench(folder, "--width", 2)
    study(plain='method = "plain"\n[settings]\nepochs = 2')
    assert bench(folder, "--select", "*/films/12", "--width", 2)["finished"] == 2
    locks = folder / "results" / ".locks"
    with open(locks / "plain-16") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert bench(folder, "--width", 2) == {"cells": 4, "finished": 2, "failed": 0}


def test_a_match_may_be_half_a_step_a_finish_off(study, bench):
    thrice = 'match = "plain"\nmethod = "lp_ft"\n[settings]\nfinishes = 3'
    for epochs in (3, 4):  # 9 and 12 steps; 3 finishes take 9 and 12 too
        folder = study(plain=f'method = "plain"\n[settings]\nepochs = {epochs}', thrice=thrice)
        bench(folder, "--select", "*/films/12", "--width", 2)
        assert bench(folder, "--summarize")["stale"] == 0
    study(
        plain='method = "plain"\n[settings]\nbatch_size = 3\nepochs = 2.5',
        thrice=thrice + "\nbatch_size = 3",
    )  # 10 steps, of which three finishes take 9
    bench(folder, "--select", "*/films/12", "--width", 2)
    steps = {path.split("/")[0]: record["steps"] for path, record in cells(folder).items()}
    assert steps == {"plain": 10, "thrice": 9}
    assert bench(folder, "--summarize")["stale"] == 0


def test_a_summary_of_other_results_lies_with_them(study, bench, tmp_path):
    folder, other = study(), tmp_path / "elsewhere"
    bench(folder, "--select", "*/films/12", "--results", other, "--width", 2)
    found = bench(folder, "--summarize", "--results", other)
    assert found["summary"] == str(other / "results.md")
    assert not (folder / "results.md").exists()


def test_a_sweep_runs_every_point_and_its_outcome_can_be_chosen(study, bench):
    text = STUDY + "[sweep]\nlearning_rate = [1e-3, 1e-2]\n"
    folder = study(text)
    assert bench(folder, "--select", "*/films/*", "--width", 4)["finished"] == 4
    found = cells(folder)
    assert set(found) == {
        f"plain@learning_rate={rate}/films-12-{seed}.json"
        for rate in ("0.001", "0.01")
        for seed in (1, 2)
    }
    assert found["plain@learning_rate=0.01/films-12-1.json"]["cells"] == 4
    (folder / "chosen.toml").write_text("[plain]\nlearning_rate = 5e-3\n")
    study('chosen = "chosen.toml"\n' + STUDY)
    bench(folder, "--select", "plain/films/*")
    config = cells(folder)["plain/films-12-1.json"]["config"]
    assert config["method"]["learning_rate"] == 5e-3


def test_shards_divide_the_grid(study, bench):
    folder = study(a='method = "plain"', b='method = "probe"')
    one = bench(folder, "--shard", "1/2")
    assert one == {"cells": 4, "finished": 4, "failed": 0}
    assert {path.split("/")[0] for path in cells(folder)} == {"a"}
    bench(folder, "--shard", "2/2")
    assert len(cells(folder)) == 8


def test_what_another_process_works_on_is_left_to_it(study, bench):
    folder = study(a='method = "probe"', b='method = "probe"')
    (folder / "results" / ".locks").mkdir(parents=True)
    with open(folder / "results" / ".locks" / "a-16", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        bench(folder)
        assert {path.split("/")[0] for path in cells(folder)} == {"b"}
    bench(folder)
    assert len(cells(folder)) == 8


def test_the_summary_has_tables_and_figures(study, bench):
    text = 'against = ["plain"]\n' + STUDY
    folder = study(text, plain='method = "plain"', probe='method = "probe"')
    bench(folder, "--width", 4)
    assert bench(folder, "--summarize")["cells"] == 8
    text = (folder / "results.md").read_text()
    assert "Paired gain over plain" in text
    assert "sd ratio" in text
    assert "probe" in (folder / "results.csv").read_text()
    assert (folder / "spread.svg").read_text().lstrip().startswith("<?xml")
    written = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    bench(folder, "--summarize")
    assert {path: path.read_bytes() for path in written} == written


def test_a_variant_comes_from_the_first_folder_that_has_it(study):
    folder = study(
        'from = ["old", "."]\n' + STUDY, plain='method = "plain"', soup='method = "soup"'
    )
    (folder / "old").mkdir()
    (folder / "old" / "soup.toml").write_text('method = "soup"\nsettings = {finishes = 1}')
    found = read_study(folder).variants
    assert list(found) == ["plain", "soup"]
    assert found["soup"].settings["finishes"] == 1


def test_a_variant_like_another_has_its_entries_but_where_it_tells_its_own(study):
    base = (
        'method = "blomix"\nseeds = 1\n[settings]\nfolds = 2\nepochs = 2\n[model]\npooling = "mean"'
    )
    own = 'like = "base"\nmethod = "soup"\n[settings]\nepochs = 3'
    found = read_study(study(base=base, soup=own)).variants["soup"]
    assert (found.name, found.method, found.seeds) == ("soup", "soup", 1)
    assert (found.settings["folds"], found.settings["epochs"]) == (2, 3)
    assert found.model == {"pooling": "mean"}
