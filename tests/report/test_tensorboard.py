"""TensorBoard events hold every logged number."""

import resource

import pytest

from blomix.errors import InputError
from blomix.report.reading import RunRecord
from blomix.report.tensorboard import write_events
from tests.report.synthetic import write_run

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")


def test_every_logged_number_is_a_scalar(tmp_path):
    from tensorboardX.proto import event_pb2

    run = RunRecord.load(write_run(tmp_path / "a", steps=3, folds=2))
    count = write_events(run, tmp_path / "events")
    numbers = sum(isinstance(v, float) for record in run.metrics for v in record.values())
    assert count == numbers + 1
    (file,) = (tmp_path / "events").iterdir()
    tags = {
        value.tag
        for record in records(file.read_bytes())
        for value in event_pb2.Event.FromString(record).summary.value
    }
    assert {"search/outer_loss/1", "finetune/loss/0", "validation/mcc"} <= tags


def test_epochs_of_early_stopping_are_one_curve(tmp_path):
    from tensorboardX.proto import event_pb2

    run = RunRecord.load(write_run(tmp_path / "a", method="plain"))
    count = len(run.metrics)
    for record in run.metrics:
        epoch, record["step"] = divmod(record["step"], 19)
        record["phase"] = f"finetune-{19 * epoch}"
    write_events(run, tmp_path / "events")
    (file,) = (tmp_path / "events").iterdir()
    events = [event_pb2.Event.FromString(record) for record in records(file.read_bytes())]
    steps = [e.step for e in events for v in e.summary.value if v.tag == "finetune/loss/0"]
    assert steps == list(range(count))


def test_events_are_written_once_however_often(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a"))
    for _ in range(2):
        write_events(run, tmp_path / "events")
    assert len(list((tmp_path / "events").iterdir())) == 1


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path):
    run = RunRecord.load(write_run(tmp_path / "a"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        with pytest.raises(InputError, match="cannot write TensorBoard events to"):
            write_events(run, tmp_path / "events")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "events").iterdir())


def records(data: bytes):
    """A TFRecord file's records: length (8 bytes) and its checksum (4), record and checksum (4)."""
    while data:
        length = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + length]
        data = data[16 + length :]
