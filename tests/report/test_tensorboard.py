"""TensorBoard events hold every logged number."""

import pytest

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


def records(data: bytes):
    """A TFRecord file's records: length (8 bytes) and its checksum (4), record and checksum (4)."""
    while data:
        length = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + length]
        data = data[16 + length :]
