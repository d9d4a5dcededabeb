"""The audit section: all that the run can be judged by and repeated from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blomix.data import digest_of
from blomix.report.card import base_model
from blomix.report.reading import RunRecord

_NAMES = {"train": "training", "held": "held out, to stop on", "validation": "scored"}


@dataclass(frozen=True)
class Split:
    """One line of the table of splits; `balance` has a number a column of the table."""

    name: str
    rows: int
    digest: str
    balance: tuple[float, ...]


@dataclass(frozen=True)
class Audit:
    facts: dict[str, str]
    columns: tuple[str, ...]
    splits: tuple[Split, ...]
    findings: tuple[str, ...]
    versions: dict[str, str]
    events: tuple[tuple[str, str], ...]
    config: str


def audit(run: RunRecord) -> Audit:
    columns = tuple(run.summary["labels"] or ("min", "mean", "median", "max"))
    return Audit(
        facts=_facts(run),
        columns=columns,
        splits=tuple(_splits(run, columns)),
        findings=tuple(_findings(run)),
        versions={name: v or "unknown" for name, v in run.environment["versions"].items()},
        events=tuple((line["time"], _event(line)) for line in run.audit),
        config=run.config_text,
    )


def _facts(run: RunRecord) -> dict[str, str]:
    summary, environment = run.summary, run.environment
    begun = run.audit[0]["time"] if run.audit else "unknown"
    recipe = summary["recipe"]
    plain_steps = max(
        1, round(recipe["epochs"] * -(-summary["train_size"] // max(1, recipe["batch_size"])))
    )
    gradients = summary["gradient_evaluations"]
    return {
        "Data": summary["data"],
        "Training examples": f"{summary['train_size']:,}",
        "Scored examples": f"{summary['validation_size']:,}",
        "Base model": base_model(summary),
        "Encoder": ", ".join(_flat(summary["model"])),
        "Method": summary["method"],
        "Seed": str(summary["seed"]),
        "Begun": begun,
        "Time in training": _duration(summary["seconds"]),
        "Steps": f"{summary['steps']:,}",
        "Cost": f"{gradients:,.0f} gradient evaluations, {gradients / plain_steps:.1f} times those "
        "of plain finetuning over as many epochs",
        "Commit": environment.get("commit") or "unknown (installed from a package)",
        "Python": environment["python"],
        "Devices": ", ".join(environment["devices"]),
        "XLA flags": environment.get("xla_flags") or "none",
        "Run directory": str(run.path),
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        elif value is not None:
            yield f"{prefix}{name} {json.dumps(value, ensure_ascii=False)}"


def _splits(run: RunRecord, columns: Sequence[str]):
    splits = run.splits
    for name, shown in _NAMES.items():
        if name in splits:
            yield _split(shown, splits[name], splits["balance"][name], columns)
    for i, fold in enumerate(splits.get("folds", []), 1):
        for part in ("inner", "outer"):
            balance = splits["balance"]["folds"][i - 1][part]
            yield _split(f"fold {i}, {part}", fold[part], balance, columns)


def _split(name: str, digests: Sequence[str], balance: Mapping[str, float], columns) -> Split:
    return Split(
        name, len(digests), digest_of(digests), tuple(balance.get(column, 0) for column in columns)
    )


def _findings(run: RunRecord):
    for name, found in run.splits["duplicates"].items():
        yield (
            f"{_NAMES.get(name, name)}: {found['rows']} rows repeat the text of an earlier row, "
            f"{found['conflicting_texts']} texts have more than one label."
        )
    leaked = run.splits["leakage"]
    yield (
        f"Between training and scored examples: {leaked['rows']} scored rows have a text that was "
        f"trained on, {leaked['conflicting']} of them with another label."
    )


def _event(line: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in line.items() if name not in ("time", "event", "pid")}
    details = ", ".join(f"{name} {value}" for name, value in rest.items())
    return f"{line['event']}{f' ({details})' if details else ''}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
