"""Report and comparison of real runs, through the command line."""

import html
import json
import re
import shutil

import pytest

from tests.conftest import result_of

SHORT = ("--epochs", "4", "--batch-size", "8", "--learning-rate", "5e-3")
FAST = ("--set", "folds=2", "--set", "hypergradient=first_order", *SHORT)


@pytest.fixture(scope="module")
def runs(tiny_model, reviews, tmp_path_factory):
    """Finished runs of the recipe and of plain finetuning on the same examples."""
    from blomix.cli import _main

    folder = tmp_path_factory.mktemp("runs")
    for method in ("blomix", "plain"):
        arguments = ["finetune", "--model", tiny_model, "--train", reviews["train"]]
        arguments += ["--validation", reviews["validation"], "--run-dir", folder / method]
        arguments += ["--method", method, *(FAST if method == "blomix" else SHORT)]
        assert _main([str(argument) for argument in arguments]) == 0
    return folder


def test_report_says_its_verdict_and_writes_the_page(runs, blomix, tmp_path):
    code, out, err = blomix("report", runs / "blomix", runs / "plain", "--out", tmp_path, "--json")
    assert (code, err) == (0, "")
    result = result_of(out)
    assert result["reasons"]
    page = (tmp_path / "report.html").read_text()
    assert result["verdict"] in page
    assert '<bdi dir="auto">plain</bdi>' in page
    assert 'id="figure-share"' in page
    assert (tmp_path / "figures" / "share.pdf").is_file()


def test_the_audit_counts_what_was_trained_on(runs, blomix, tmp_path):
    assert blomix("report", runs / "blomix", "--out", tmp_path)[0] == 0
    page = (tmp_path / "report.html").read_text()
    rows = {
        match[1]: (int(match[2]), int(match[3]), int(match[4]))
        for match in re.finditer(
            r"<tr><th>([^<]+)</th>" + r'<td class="number">(\d+)</td>' * 3, page
        )
    }
    assert rows["training"] == (30, 15, 15)
    inner, outer = rows["fold 1, inner"], rows["fold 1, outer"]
    assert tuple(map(sum, zip(inner, outer, strict=True))) == rows["training"]


def test_a_run_is_repeated_from_the_audit_section_alone(runs, blomix, tmp_path):
    assert blomix("report", runs / "blomix", "--out", tmp_path)[0] == 0
    audit = (tmp_path / "report.html").read_text().split('<section id="audit">')[1]
    config = html.unescape(re.search(r'<pre id="config">(.*?)</pre>', audit, re.DOTALL)[1])
    (tmp_path / "config.toml").write_text(config)
    again = tmp_path / "again"
    assert blomix("finetune", "--config", tmp_path / "config.toml", "--run-dir", again)[0] == 0
    for name in ("validation.jsonl", "metrics.jsonl", "splits.json"):
        assert (again / name).read_bytes() == (runs / "blomix" / name).read_bytes()
    digests = json.loads((again / "splits.json").read_text())["train"]
    assert len(digests) == 30


def test_compare_names_the_settings_that_differ(runs, blomix, tmp_path):
    arguments = ("compare", runs / "plain", runs / "blomix", "--out", tmp_path, "--json")
    code, out, err = blomix(*arguments)
    assert (code, err) == (0, "")
    comparison = result_of(out)["comparison"]
    settings = {setting["name"]: setting["values"] for setting in comparison["settings"]}
    assert settings["method"] == ['"plain"', '"blomix"']
    assert settings["recipe.folds"] == ["not set", "2"]
    assert "recipe.learning_rate" not in settings
    assert comparison["scores"][1]["gain"]["value"] == pytest.approx(
        comparison["scores"][1]["score"]["value"] - comparison["scores"][0]["score"]["value"]
    )
    assert (tmp_path / "compare.html").is_file()


def test_mistakes_are_one_line(runs, blomix, tmp_path):
    for arguments, told in (
        (("report", tmp_path), "found no result.json"),
        (("report",), "expected one run directory or more"),
        (("compare", runs / "plain"), "expected two run directories or more"),
    ):
        code, _, err = blomix(*arguments)
        assert code == 2
        assert told in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["result.json", "env.json", "splits.json", "alpha.json"])
def test_a_file_of_something_else_is_one_line(runs, blomix, tmp_path, name):
    run = shutil.copytree(runs / "plain", tmp_path / "run")
    for content in ("{}", "[]", "1"):
        (run / name).write_text(content)
        code, _, err = blomix("report", run)
        assert code == 2
        assert name in err
        assert "expected an object" in err
        assert len(err.strip().splitlines()) == 1
