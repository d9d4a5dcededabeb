"""The verdict says what the scores say, and no more."""

import pytest

from blomix.errors import InputError
from blomix.evaluation.resampling import Interval
from blomix.report.compare import compare
from blomix.report.reading import RunRecord
from blomix.report.verdict import MethodScore, judge, words
from tests.report.synthetic import write_run


def load(tmp_path, **methods):
    """A run of each method, written with its options."""
    return [
        RunRecord.load(write_run(tmp_path / name, **{"method": name} | options))
        for name, options in methods.items()
    ]


def verdict(tmp_path, **methods):
    runs = load(tmp_path, **methods)
    return judge(runs, runs[0])


def test_a_clear_gain_is_called_one(tmp_path):
    found = verdict(tmp_path, blomix={"skill": 4.0}, plain={"skill": 1.0})
    assert found.headline == "Better than plain finetuning, on unequal terms"  # 957 gradients to 57
    assert found.subject.over_plain.low > 0


def test_runs_of_another_encoder_or_length_are_on_unequal_terms(tmp_path):
    runs = load(tmp_path, mixout={"skill": 4.0}, plain={"skill": 1.0})
    assert judge(runs, runs[0]).headline == "Better than plain finetuning"
    runs[1].summary["model"]["source"] = "bert-tiny"
    runs[1].summary["max_length"] = 8
    found = judge(runs, runs[0])
    assert found.headline == "Better than plain finetuning, on unequal terms"
    assert any(
        "model source '/models/all-MiniLM-L6-v2' in place of 'bert-tiny'" in reason
        and "in place of 8 of the plain runs" in reason
        for reason in found.reasons
    )


def test_seeds_of_before_a_setting_was_added_belong_with_those_of_after(tmp_path):
    runs = [RunRecord.load(write_run(tmp_path / f"{s}", seed=s)) for s in (0, 1)]
    for run in runs:
        run.summary["recipe"].pop("head_rows", None)
    runs[1].summary["recipe"]["head_rows"] = "inner"  # its default
    assert runs[0].differences(runs[1]) == {}
    runs[1].summary["recipe"]["head_rows"] = "all"
    assert list(runs[0].differences(runs[1])) == ["head_rows"]


def test_a_loss_is_called_one(tmp_path):
    found = verdict(tmp_path, blomix={"skill": 1.0}, plain={"skill": 4.0})
    assert found.headline == "Worse than plain finetuning, on unequal terms"
    assert any("Plain finetuning is the better choice" in reason for reason in found.reasons)


def test_a_small_difference_is_not_sold_as_a_gain(tmp_path):
    found = verdict(tmp_path, blomix={"skill": 1.3, "n": 60}, plain={"skill": 1.2, "n": 60})
    assert found.headline == "No clear difference from plain finetuning"
    assert any("one seed" in reason for reason in found.reasons)


def test_a_model_that_learned_nothing_is_called_useless_however_it_compares(tmp_path):
    found = verdict(tmp_path, blomix={"skill": 0.0}, plain={"skill": 0.0})
    assert found.headline == "Not shown to be better than ignoring the text"


@pytest.mark.parametrize(
    ("value", "advice"), [(0.2, "8 scored examples do not show"), (-0.1, "Do")]
)
def test_what_few_scored_examples_leave_open_is_not_called_useless(value, advice):
    over = Interval(value, value - 0.4, value + 0.4)
    score = Interval(0.5 + value, 0.1 + value, 0.9 + value)
    ours = MethodScore("blomix", (0,), score, None, over, None, 1.0)
    headline, (_, gain, found) = words(ours, None, "accuracy", 0.5, 8)
    assert headline == "Not shown to be better than ignoring the text"
    assert f"{value:+.3f} (95% interval {over.low:+.3f} to {over.high:+.3f})" in gain
    assert advice in found


def test_without_a_plain_run_the_comparison_is_asked_for(tmp_path):
    found = verdict(tmp_path, blomix={"skill": 3.0})
    assert "whether plain finetuning would do as well is not known" in found.headline
    assert found.subject.over_plain is None


def test_several_seeds_become_one_method_with_a_spread(tmp_path):
    runs = [
        RunRecord.load(write_run(tmp_path / f"{method}{seed}", method, seed))
        for method in ("plain", "blomix")
        for seed in range(3)
    ]
    found = judge(runs, runs[-1])
    assert [score.method for score in found.scores] == ["plain", "blomix"]
    assert found.subject.seeds == (0, 1, 2)
    assert found.subject.sd > 0
    assert "the mean of 3 seeds" in found.reasons[0]
    scores = [run.summary["score"] for run in runs[3:]]
    assert found.subject.score.value == pytest.approx(sum(scores) / 3)


def test_runs_of_a_method_that_are_not_its_seeds_are_refused(tmp_path):
    runs = [RunRecord.load(write_run(tmp_path / f"{seed}", "plain", seed)) for seed in (0, 1)]
    judge(runs, runs[0])
    runs[1].summary["recipe"]["epochs"] = 18.0
    with pytest.raises(InputError, match=r"found epochs 18\.0 in place of \d"):
        judge(runs, runs[0])
    with pytest.raises(InputError, match="found seed 0 again"):
        judge([runs[0], runs[0]], runs[0])


def test_longer_or_dearer_training_and_other_examples_are_told_of(tmp_path):
    runs = load(tmp_path, blomix={"skill": 4.0}, plain={"skill": 1.0})
    method, plain = (run.summary for run in runs)
    assert any("--epochs 50 would tell what" in reason for reason in judge(runs, runs[0]).reasons)
    method["gradient_evaluations"] = plain["gradient_evaluations"]
    assert judge(runs, runs[0]).headline == "Better than plain finetuning"
    assert not any("steps" in reason for reason in judge(runs, runs[0]).reasons)
    plain["steps"] = method["steps"] // 6
    assert any("--epochs 18 would tell." in reason for reason in judge(runs, runs[0]).reasons)
    assert judge(runs, runs[0]).headline == "Better than plain finetuning, on unequal terms"
    assert not any("other examples," in reason for reason in judge(runs, runs[0]).reasons)
    runs[1].splits["train"] = runs[1].splits["train"][:-1]
    assert any("trained on other examples," in reason for reason in judge(runs, runs[0]).reasons)


def test_a_loss_to_longer_training_is_told_as_one(tmp_path):
    runs = load(tmp_path, blomix={"skill": 1.0}, plain={"skill": 4.0})
    runs[1].summary["steps"] *= 10
    found = judge(runs, runs[0])
    assert found.headline == "Worse than plain finetuning, on unequal terms"
    assert any("shorter training" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("cost", "cheaper"), [(0.0, "This method is"), (500.0, "Plain finetuning is")]
)
def test_the_cheaper_of_two_equals_is_named(tmp_path, cost, cheaper):
    runs = load(tmp_path, blomix={"skill": 1.2, "n": 60}, plain={"skill": 1.2, "n": 60})
    runs[0].summary["gradient_evaluations"] = cost
    assert any(reason.startswith(f"{cheaper} cheaper") for reason in judge(runs, runs[0]).reasons)


def test_a_regression_has_a_verdict_too(tmp_path):
    found = verdict(tmp_path, blomix={"labels": (), "skill": 3.0})
    assert found.metric == "spearman"
    assert found.subject.over_majority.low > 0.5


def test_runs_of_classes_in_another_order_are_refused(tmp_path):
    runs = [
        RunRecord.load(write_run(tmp_path / name, method, labels=labels))
        for name, method, labels in (
            ("ours", "blomix", ("bad", "good")),
            ("plain", "plain", ("good", "bad")),
        )
    ]
    with pytest.raises(InputError, match=r"bad, good, found good, bad"):
        judge(runs, runs[0])
    with pytest.raises(InputError, match=r"expected the classes"):
        compare(runs)


def test_runs_scored_on_other_examples_are_refused(tmp_path):
    with pytest.raises(InputError, match="scored on the same examples"):
        verdict(tmp_path, blomix={"n": 60}, plain={"n": 61})
