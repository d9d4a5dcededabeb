"""A run's log as TensorBoard events, for those who look at their runs there."""

from pathlib import Path

from blomix.errors import InputError
from blomix.report.reading import RunRecord


def write_events(run: RunRecord, folder: str | Path) -> int:
    """Writes every number of metrics.jsonl as a scalar, a tag a phase, quantity and lane.

    Returns:
      How many scalars were written.

    Raises:
      InputError: the package tensorboardX is not installed, or the folder cannot be written.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "TensorBoard events need the package tensorboardX: pip install 'blomix[tensorboard]'"
        ) from None
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
    written = 0
    with SummaryWriter(str(folder)) as writer:
        for record in run.metrics:
            for name, value in record.items():
                if isinstance(value, float):
                    tag = f"{record['phase']}/{name}/{record['lane']}"
                    writer.add_scalar(tag, value, record["step"])
                    written += 1
        writer.add_scalar(f"validation/{run.metric}", run.summary["score"], 0)
    return written + 1
