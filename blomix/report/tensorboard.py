"""A run's log as TensorBoard events, for those who look at their runs there."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

from blomix.errors import InputError
from blomix.report.course import first_step, phase_of
from blomix.report.reading import RunRecord
from blomix.runs.files import storage, write_bytes

NAME = "events.out.tfevents.blomix"  # one file, so that a second report does not count twice


def write_events(run: RunRecord, folder: str | Path) -> int:
    """Writes every number of metrics.jsonl as a scalar, a tag a phase, quantity and lane.

    Returns:
      How many scalars were written.

    Raises:
      InputError: the package tensorboardX is not installed, or the folder cannot be written.
    """
    try:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import masked_crc32c
        from tensorboardX.summary import scalar
    except ImportError:
        raise InputError(
            "TensorBoard events need the package tensorboardX: pip install 'blomix[tensorboard]'"
        ) from None
    scalars = [
        (
            f"{phase_of(record['phase'])}/{name}/{record['lane']}",
            value,
            first_step(record["phase"]) + record["step"],
        )
        for record in run.metrics
        for name, value in record.items()
        if isinstance(value, float)
    ]
    scalars.append((f"validation/{run.metric}", run.summary["score"], 0))
    now = time.time()
    events = [Event(wall_time=now, file_version="brain.Event:2")]
    for tag, value, step in scalars:
        events.append(Event(wall_time=now, step=step, summary=scalar(tag, value)))
    # Not by its SummaryWriter, which writes in a thread of its own and hangs on a full disk.
    data = b"".join(framed(event.SerializeToString(), masked_crc32c) for event in events)
    folder = Path(folder)
    with storage(folder, "write TensorBoard events to"):
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / NAME, data)
    return len(scalars)


def framed(data: bytes, checksum: Callable[[bytes], int]) -> bytes:
    """A TFRecord: the length (8 bytes) and its checksum (4), `data` and its checksum (4)."""
    length = struct.pack("<Q", len(data))
    return b"".join(part + struct.pack("<I", checksum(part)) for part in (length, data))
