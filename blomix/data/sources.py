"""What a user names as data -> a table: a file, a folder of splits, a GLUE task, a hub data set."""

import re
from collections.abc import Sequence
from pathlib import Path

from blomix.data.files import FORMATS, open_file
from blomix.data.messages import near, reason, show, show_all, show_path
from blomix.data.table import Table
from blomix.data.tasks import GLUE, TASKS, Task
from blomix.errors import InputError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.+-]+)?", re.ASCII)
_REACH_SECONDS = 10.0


def open_source(source: str | Path, split: str) -> tuple[Table, Task | None, str]:
    """(table, the GLUE task it belongs to, name).

    An existing path wins over a name. A folder holds `<split>.tsv` (or another known suffix); a
    folder called like a GLUE task, and a file in it, is of that task. Otherwise: a GLUE task's
    name, `name:config`, `owner/name` or `owner/name:config`, read from the Hugging Face hub.
    """
    text = str(source)
    if "\0" in text:
        raise InputError(f"expected a path or a data set's name, found {show(text)}")
    path = Path(text)
    try:
        if path.is_dir():
            return open_file(_split_file(path, split)), TASKS.get(_name(path)), _name(path)
        is_file = path.exists() or path.suffix.lower() in FORMATS
    except OSError as error:
        raise InputError(f"{show_path(text)}: {error.strerror or 'cannot be read'}") from error
    if is_file:
        return open_file(path), TASKS.get(_name(path.parent)), path.stem
    if text in TASKS:
        return _hub(GLUE, text, _glue_split(text, split)), TASKS[text], text
    if _HUB_ID.fullmatch(text) and ("/" in text or ":" in text):
        repository, _, config = text.partition(":")
        return _hub(repository, config or None, split), None, text
    raise InputError(
        f"{show_path(text)}: no such file or folder, and not one of the tasks "
        f"{', '.join(TASKS)}{near(text, list(TASKS))} "
        f"(a hub data set is written owner/name or name:config)"
    )


def _name(folder: Path) -> str:
    return folder.resolve().name


def _split_file(folder: Path, split: str) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS)
    matching = [path for path in found if path.stem == split]
    if len(matching) != 1:
        raise InputError(
            f"{show_path(folder)}: {'several files' if matching else 'no file'} for the split "
            f"{show(split)}; it has {show_all([path.name for path in found])}"
        )
    return matching[0]


def _glue_split(task: str, split: str) -> str:
    matched = task == "mnli" and split in ("validation", "test")
    return f"{split}_matched" if matched else split


def _hub(repository: str, config: str | None, split: str) -> Table:
    """A split of a hub data set, at the commit that its name resolves to now."""
    import datasets
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    called = repository if config is None else f"{repository}:{config}"
    # The client raises a dozen unrelated classes, which change with its version: all of them mean
    # that the data set cannot be had, and the message carries the reason.
    try:
        commit = (
            huggingface_hub.HfApi().dataset_info(repository, timeout=_REACH_SECONDS).sha or "main"
        )
    except OfflineModeIsEnabled:
        commit = None  # asked for with HF_HUB_OFFLINE=1: the copy in the cache is taken
    except Exception as error:
        raise InputError(
            f"{called}: no such file, and the Hugging Face hub gives no such data set or cannot be "
            f"reached ({type(error).__name__}: {reason(error)}); give a local file, or set "
            f"HF_HUB_OFFLINE=1 to take a cached copy"
        ) from error
    try:
        data = datasets.load_dataset(repository, config, split=split, revision=commit)
    except Exception as error:
        raise InputError(
            f"{called}: split {show(split)} cannot be loaded from the Hugging Face hub "
            f"({type(error).__name__}: {reason(error)})"
        ) from error
    assert isinstance(data, datasets.Dataset)
    return dataset_table(data, f"{called}@{commit or 'cached'} {split}")


def dataset_table(data, where: str) -> Table:
    """A `datasets.Dataset` as a table: class indices become the names its features give."""
    import datasets

    classes = {
        name: tuple(feature.names)
        for name, feature in data.features.items()
        if isinstance(feature, datasets.ClassLabel)
    }

    def read(wanted: Sequence[str]) -> dict[str, list]:
        columns = {name: list(data[name]) for name in wanted}
        for name in set(wanted) & set(classes):
            # An index of -1 stands for "no label" (the test splits of GLUE).
            names = classes[name]
            columns[name] = [None if i is None or i < 0 else names[i] for i in columns[name]]
        return columns

    return Table(where, tuple(data.column_names), read, classes)
