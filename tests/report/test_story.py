"""Maps, curves, agreement, advice, errors: each says what was put into the run."""

import json

import numpy as np
import pytest

from blomix.errors import InputError
from blomix.report import advice, course, modules, predictions
from blomix.report.reading import RunRecord
from tests.report.synthetic import KINDS, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return RunRecord.load(write_run(tmp_path_factory.mktemp("run") / "a"))


def test_the_map_has_layers_by_kinds(run):
    found = modules.grid(run.matrices, "change")
    assert found.layers == tuple(range(6))
    assert found.kinds == KINDS
    assert found.values[5, 5] == pytest.approx(0.002 * 6 * 2)


def test_a_matrix_outside_the_layers_is_told_beside_the_map(run):
    pooler = {"path": "pooler/kernel", "layer": None, "matrix": "pooler", "change": 0.5}
    found = modules.grid([*run.matrices, pooler], "change")
    assert found.others == {"pooler": 0.5}
    assert modules.ranking([*run.matrices, pooler])[0]["name"] == "pooler"


def test_the_ranking_starts_with_the_largest_change(run):
    first = modules.ranking(run.matrices)[0]
    assert first["name"] == "layer 6, feed-forward out"
    assert "layer 6, feed-forward out, by 2.40%" in modules.sentences(run)[0]
    assert "The upper half of the layers changed 2.5 times" in modules.sentences(run)[1]


def test_shares_near_one_are_called_what_they_are(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a", low_share=1.0))
    for matrix in run.matrices:
        matrix["share"] = 0.995
    assert any("hardly anchored" in sentence for sentence in modules.sentences(run))


def test_where_shares_come_from_is_told_as_it_is(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a"))
    assert "for each row and column of each matrix on data that the task" in modules.origin(run)
    assert "share × task weight + (1 − share) × pretrained weight" in modules.origin(run)
    run.summary["recipe"] |= {"granularity": "matrix", "formula": "released"}
    assert "for each matrix on data" in modules.origin(run)
    assert "do not add up to 1" in modules.origin(run)
    assert not any("pretrained weights kept" in sentence for sentence in modules.sentences(run))
    run.summary["method"] = "random_alpha"
    assert "drawn at random for each matrix, and not learned" in modules.origin(run)
    run.summary["method"] = "joint"
    assert "by the loss, and on the data, that trained the task weights" in modules.origin(run)
    for matrix in run.matrices:
        matrix.pop("share", None)
    assert "no shares" in modules.origin(run)


def test_shares_that_are_damaged_are_one_message(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a"))
    shares = run.path / "shares.safetensors"
    shares.write_bytes(shares.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"shares\.safetensors: cannot be read"):
        modules.profiles(run)


def test_profiles_name_the_rows_that_kept_most(run):
    rows, columns = modules.profiles(run)["layers/0/query/kernel"]
    from safetensors.numpy import load_file

    share = load_file(run.path / "shares.safetensors")["layers/0/query/kernel"]
    assert rows.least[0][0] == share.mean(1).argmin()
    assert columns.length == share.shape[1]


def test_folds_that_choose_alike_agree_and_others_do_not():
    steps = np.arange(1, 3)
    same = np.tile(np.linspace(0.1, 0.9, 20), (4, 1))
    alike = course.agreement(course.Alpha(steps, same[:, :2], same, tuple("abcdefghijklmnopqrst")))
    assert alike.correlation == pytest.approx(1)
    assert alike.common == 5
    drawn = np.random.default_rng(0).random((4, 200))
    apart = course.agreement(course.Alpha(steps, drawn[:, :2], drawn, ("x",) * 200))
    assert abs(apart.correlation) < 0.15
    assert "do not agree" in apart.words


def test_learning_rates_are_those_of_the_recipe(run):
    rates = course.learning_rates(run)
    steps, rate = rates["finetuning"]
    assert len(steps) == 57
    assert rate.max() == pytest.approx(1e-4)
    assert rate[-1] < 1e-5
    assert rates["search, alpha"][1].max() == pytest.approx(2e-3)


def test_a_rate_does_not_fall_to_zero_where_patience_stopped(tmp_path):
    path = write_run(tmp_path / "a") / "result.json"
    found = json.loads(path.read_text())
    found["recipe"] |= {"patience": 2, "epochs": 30.0}  # 390 steps of 16 of 200 rows
    path.write_text(json.dumps(found))
    _, rate = course.learning_rates(RunRecord.load(path.parent))["finetuning"]
    assert len(rate) == 57
    assert rate[-1] == pytest.approx(1e-4 * (390 - 56) / (390 - 39), rel=0.01)


def test_a_phase_before_the_finetuning_is_no_part_of_it():
    records = [
        {"phase": phase, "lane": 0, "step": step, "loss": loss}
        for phase, loss in (("fisher", 3.0), ("finetune", 1.0))
        for step in range(3)
    ]
    found = course.series(records, "loss", search=False)
    assert found.values[0].tolist() == [1.0] * 3


def test_steps_of_an_epoch_wise_training_go_on_counting():
    records = [
        {"phase": phase, "lane": 0, "step": step, "loss": 1.0}
        for phase in ("finetune-0", "finetune-3")
        for step in range(3)
    ]
    assert course.series(records, "loss", search=False).steps[0].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_rises_again_is_overfitting():
    ends = advice.Ends(0.2, 0.1, 0.1), advice.Ends(0.4, 0.6, 0.4)
    (sign,) = advice.split_gap(*ends)
    assert sign.kind == "warning"
    assert "overfit" in sign.seen


def test_a_gap_is_a_hint_and_no_gap_is_fine():
    (gap,) = advice.split_gap(advice.Ends(0.2, 0.1, 0.1), advice.Ends(0.3, 0.3, 0.3))
    (fine,) = advice.split_gap(advice.Ends(0.2, 0.2, 0.2), advice.Ends(0.25, 0.22, 0.22))
    assert (gap.kind, fine.kind) == ("hint", "fine")


def test_a_loss_far_above_that_of_training_on_the_scored_examples_is_told(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a", "plain"))
    scored = predictions.cross_entropy(run)
    chosen = np.take_along_axis(run.probabilities, run.labels[:, None], axis=1)
    assert scored == pytest.approx(-np.log(chosen).mean())
    (sign,) = (sign for sign in advice.signs(run) if "on the scored ones" in sign.seen)
    assert f"and {scored:.3f}" in sign.seen
    for prediction, label in zip(run.predictions, run.labels, strict=True):
        prediction["logits"] = [20.0 * (label == 0), 20.0 * (label == 1)]
    run = RunRecord(**{name: getattr(run, name) for name in run.__dataclass_fields__})
    assert not any("on the scored ones" in sign.seen for sign in advice.signs(run))


def test_advice_tells_of_leaked_texts_and_of_alpha_that_stayed(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a", leaked=7))
    seen = [sign.seen for sign in advice.signs(run) if sign.kind == "warning"]
    assert any("7 scored examples" in text for text in seen)
    assert not any("all but off" in text for text in seen)
    for line in run.history:
        line["shares"] = [0.995] * len(line["shares"])
    assert any("all but off" in sign.seen for sign in advice.signs(run))


def test_a_handful_of_steps_says_nothing_of_overfitting(tmp_path):
    seen = [sign.seen for sign in advice.signs(RunRecord.load(write_run(tmp_path / "a", steps=4)))]
    assert any("took 4 outer steps: too few" in text for text in seen)
    assert not any("overfit" in text for text in seen)


def test_a_label_that_is_never_predicted_is_told(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a"))
    for prediction in run.predictions:
        prediction["logits"] = [1.0, 0.0]
    seen = [sign.seen for sign in advice.signs(run)]
    assert any("1 of 2 labels are never predicted: “acceptable”" in text for text in seen)


def test_confusion_counts_everything_once(run):
    found = predictions.confusion(run)
    assert found.counts.sum() == len(run.labels)
    assert found.counts.trace() == (run.predicted == run.labels).sum()


def test_many_classes_leave_the_rare_ones_as_one(tmp_path):
    names = tuple(f"class {i}" for i in range(33))
    found = predictions.confusion(RunRecord.load(write_run(tmp_path / "a", labels=names)))
    assert found.names[-1] == "14 other labels"
    assert found.counts.shape == (20, 20)
    assert found.counts.sum() == 300


def test_the_most_confident_error_comes_first(run):
    errors = predictions.confident_errors(run)
    sure = [float(error["how"].split("%")[0]) for error in errors]
    assert sure == sorted(sure, reverse=True)
    assert all(error["label"] != error["predicted"] for error in errors)


def test_a_model_that_is_too_sure_is_told_so(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a"))
    for prediction in run.predictions:
        prediction["logits"] = [20 * value for value in prediction["logits"]]
    assert "too sure of itself" in predictions.calibration(run).words


def test_an_unfinished_or_damaged_run_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"found no result\.json"):
        RunRecord.load(tmp_path)
    run = write_run(tmp_path / "a")
    (run / "alpha.json").write_text("{")
    with pytest.raises(InputError, match=r"alpha\.json: cannot be read"):
        RunRecord.load(run)
    (run / "alpha.json").unlink()
    with pytest.raises(InputError, match=r"alpha\.json: missing"):
        RunRecord.load(run)
