"""A study as its folder says it: study.toml and a TOML file a variant -> the grid's cells."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from blomix.errors import InputError
from blomix.small_files import read_toml

Settings = dict[str, Any]
RecipeName = Literal["default", "paper", "released"]
Cost = Literal["steps", "gradients"]


@dataclass(frozen=True)
class TaskSpec:
    """A task of a study: a folder below the data root, and how it is read.

    Attributes:
      folder: its name there.
      train: the split that training examples are drawn from.
      validation: the split that is scored; "holdout" draws the scored rows from the training file.
      max_length: of a row, in tokens; every row is padded to it, so that seeds share shapes.
      text, text_pair, label: columns, found by their names if left out.
    """

    name: str
    folder: str
    train: str = "train"
    validation: str = "validation"
    max_length: int = 128
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Variant:
    """A method with settings.

    Attributes:
      method: its name in `blomix.baselines.METHODS`.
      recipe: which settings the method blomix starts from.
      settings: changes of the method's fields.
      model: changes of the encoder's options, such as its pooling.
      seeds: how many of the study's seeds it runs; None for all.
      match: the variant whose cost decides this one's epochs.
      match_by: "steps" or "gradients", gradient evaluations.
      swept: the settings of this point of a sweep.
    """

    name: str
    method: str
    recipe: RecipeName = "default"
    settings: Settings = field(default_factory=dict)
    model: Settings = field(default_factory=dict)
    seeds: int | None = None
    match: str | None = None
    match_by: Cost = "steps"
    swept: Settings = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name and the point of the sweep, fit for a file's name."""
        return "@".join([self.name, *(f"{key}={value}" for key, value in self.swept.items())])


@dataclass(frozen=True)
class Cell:
    """One run: `seed` draws head, folds, batches and masks, `subset_seed` the training examples."""

    variant: Variant
    task: TaskSpec
    n: int
    seed: int
    subset_seed: int

    @property
    def path(self) -> Path:
        """Where its result goes, below the folder of results."""
        return Path(self.variant.label) / f"{self.task.name}-{self.n}-{self.seed}.json"


@dataclass(frozen=True)
class Study:
    """What study.toml says.

    Attributes:
      folder: where it lies.
      tasks, sizes, variants: the grid.
      seeds, subset_seeds: pairs; a cell has the i-th of both.
      validation_rows: most rows that are scored, the first of the split.
      against: variants that the summary compares all others with.
    """

    folder: Path
    tasks: tuple[TaskSpec, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    subset_seeds: tuple[int, ...]
    variants: dict[str, Variant]
    points: tuple[Variant, ...]
    validation_rows: int = 1000
    against: tuple[str, ...] = ()

    def matched(self, variant: Variant) -> Variant:
        """The variant whose cost this one is to match, at the same point of a sweep."""
        assert variant.match is not None
        return dataclasses.replace(self.variants[variant.match], swept=variant.swept)

    def cells(self) -> list[Cell]:
        """The grid, variant by variant, longest task first."""
        tasks = sorted(self.tasks, key=lambda task: -task.max_length)
        pairs = list(zip(self.seeds, self.subset_seeds, strict=True))
        return [
            Cell(variant, task, n, *pair)
            for variant in self.points
            for task, n in product(tasks, self.sizes)
            for pair in pairs[: variant.seeds]
        ]


_STUDY = {
    "tasks": dict,
    "sizes": list,
    "seeds": list,
    "subset_seeds": list,
    "variants": list,
    "from": list,
    "settings": dict,
    "model": dict,
    "sweep": dict,
    "chosen": str,
    "validation_rows": int,
    "against": list,
}
_VARIANT = {
    "like": str,
    "method": str,
    "recipe": str,
    "settings": dict,
    "model": dict,
    "seeds": int,
    "match": str,
    "match_by": str,
    "chosen_as": str,
}
_TASK = {field.name: str for field in dataclasses.fields(TaskSpec)} | {"max_length": int}


def read_study(folder: str | Path) -> Study:
    """Reads a study's folder.

    study.toml must have `sizes`, `seeds` and a table `[tasks.NAME]` a task. It may have

    - `subset_seeds`: as many as seeds, and equal to them if left out;
    - `variants`: names, in the order they run; all files of the folder if left out;
    - `from`: a list of the folders with the variants' files, if not its own; the first that has a
      file of a variant's name is asked;
    - `[settings]`, `[model]`: for all variants, under their own;
    - `[sweep]`: a list of values a setting; every variant runs at every point;
    - `chosen`: a file with a table of settings a variant, over its own: the outcome of a sweep; a
      variant with `chosen_as` takes another's table;
    - `validation_rows`, `against`: see `Study`.

    A variant's file has the entries of `Variant`, and may have `like`: another variant, whose
    entries it has but where it tells its own.

    Raises:
      InputError: a file that is missing or not TOML, an entry that is unknown or of another type.
    """
    folder = Path(folder)
    where = folder / "study.toml"
    table = _read(where, _STUDY)
    for name in ("tasks", "sizes", "seeds"):
        if not table.get(name):
            raise InputError(f"{where}: expected an entry {name!r} that is not empty")
    for name, least in (("sizes", 1), ("seeds", 0), ("subset_seeds", 0)):
        _check_numbers(table.get(name, []), least, f"{where}: {name}")
    for name in ("sizes", "seeds"):
        _check_distinct(table[name], f"{where}: {name}")
    _check_numbers([table.get("validation_rows", 1)], 1, f"{where}: validation_rows")
    files = _variant_files(folder, table.get("from", ["."]), where, table.get("chosen"))
    names = table.get("variants") or sorted(files)
    chosen = _read(folder / table["chosen"]) if "chosen" in table else {}
    shared = table.get("settings", {}), table.get("model", {})
    for name in names:
        if not isinstance(name, str) or name not in files:
            known = ", ".join(sorted(files))
            raise InputError(f"{where}: variants: no file {name}.toml; there are {known}")
    if not names:
        raise InputError(f"{where}: expected a TOML file a variant beside it, found none")
    variants = {name: _variant(name, files, shared, chosen) for name in names}
    for variant in variants.values():
        _check_match(variant, variants)
    sweep = table.get("sweep", {})
    for name, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: sweep.{name}: expected a list of values, found {values!r}")
        _check_distinct(values, f"{where}: sweep.{name}")
    points = [dict(zip(sweep, values, strict=True)) for values in product(*sweep.values())]
    seeds = tuple(table["seeds"])
    subset_seeds = tuple(table.get("subset_seeds", seeds))
    if len(seeds) != len(subset_seeds):
        raise InputError(
            f"{where}: subset_seeds: expected as many as there are seeds, {len(seeds)}, found "
            f"{len(subset_seeds)}"
        )
    swept = tuple(
        dataclasses.replace(variant, swept=point)
        for variant in variants.values()
        for point in points
    )
    known = {variant.label for variant in swept}
    for name in table.get("against", ()):
        if not isinstance(name, str) or name not in known:
            raise InputError(
                f"{where}: against: no variant {name!r}; there are {', '.join(sorted(known))}"
            )
    return Study(
        folder=folder,
        tasks=tuple(_task(name, entry, where) for name, entry in table["tasks"].items()),
        sizes=tuple(table["sizes"]),
        seeds=seeds,
        subset_seeds=subset_seeds,
        variants=variants,
        points=swept,
        validation_rows=table.get("validation_rows", 1000),
        against=tuple(table.get("against", ())),
    )


def _check_numbers(values: list, least: int, where: str) -> None:
    for value in values:
        if type(value) is not int or not least <= value < 2**31:
            raise InputError(
                f"{where}: expected whole numbers of at least {least}, below 2^31, found {value!r}"
            )


def _check_distinct(values: list, where: str) -> None:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise InputError(f"{where}: expected distinct values, found {value!r} twice")


def _variant_files(folder: Path, sources: list, where: Path, chosen: str | None) -> dict[str, Path]:
    """The file of each variant that there is, the first by the order of `sources`."""
    files: dict[str, Path] = {}
    others = {"study.toml", "chosen.toml", chosen}
    for source in sources:
        if not isinstance(source, str):
            raise InputError(f"{where}: from: expected a list of folders, found {source!r} in it")
        for path in sorted((folder / source).glob("*.toml")):
            if path.name not in others:
                files.setdefault(path.stem, path)
    return files


def _variant_table(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """What a variant's file says, over what that of the variant says that it is like."""
    table = _read(files[name], _VARIANT)
    like = table.pop("like", None)
    if like is None:
        return table
    base = _read(files[like], _VARIANT) if like in files else {"like": like}
    if "like" in base:
        raise InputError(
            f"{files[name]}: like: expected a variant that is like no other, found {like!r}"
        )
    for part in ("settings", "model"):
        table[part] = base.get(part, {}) | table.get(part, {})
    return base | table


def _variant(
    name: str, files: Mapping[str, Path], shared: tuple[Settings, Settings], chosen: Mapping
) -> Variant:
    path, table = files[name], _variant_table(name, files)
    if "method" not in table:
        raise InputError(f"{path}: expected an entry 'method'")
    settings, model = shared
    chosen_as = table.pop("chosen_as", None)
    if chosen_as is not None and chosen and chosen_as not in chosen:
        raise InputError(
            f"{path}: chosen_as: no table {chosen_as!r} in the study's chosen settings; there are "
            f"{', '.join(chosen)}"
        )
    own = chosen.get(chosen_as or name, {})
    if not isinstance(own, dict):
        raise InputError(f"{name}: expected a table of chosen settings, found {own!r}")
    table["settings"] = settings | table.get("settings", {}) | own
    table["model"] = model | table.get("model", {})
    for entry, choices in (("recipe", get_args(RecipeName)), ("match_by", get_args(Cost))):
        if entry in table and table[entry] not in choices:
            raise InputError(
                f"{path}: {entry}: expected one of {', '.join(choices)}, found {table[entry]!r}"
            )
    if table.get("seeds") is not None:
        _check_numbers([table["seeds"]], 1, f"{path}: seeds")
    if table.get("recipe", "default") != "default" and table["method"] != "blomix":
        raise InputError(f"{path}: recipe {table['recipe']!r} is a setting of method 'blomix'")
    return Variant(name, **table)


def _check_match(variant: Variant, variants: Mapping[str, Variant]) -> None:
    """A variant that matches has to come to one that does not."""
    chain = [variant.name]
    while (match := variants[chain[-1]].match) is not None:
        if match not in variants:
            raise InputError(f"{chain[-1]}: no variant {match!r} to match")
        if match in chain:
            raise InputError(f"{match}: it matches itself, by {' -> '.join([*chain, match])}")
        chain.append(match)


def _task(name: str, entry: Any, where: Path) -> TaskSpec:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: tasks.{name}: expected a table, found {entry!r}")
    _check(entry, _TASK, f"{where}: tasks.{name}")
    _check_numbers([entry.get("max_length", 2)], 2, f"{where}: tasks.{name}.max_length")
    if "/" in name or name.startswith("."):
        raise InputError(
            f"{where}: tasks.{name}: expected a name that files can have; its folder is told by "
            "folder = ..."
        )
    settings: dict[str, Any] = {"name": name, "folder": name} | dict(entry)
    return TaskSpec(**settings)


def _read(path: Path, types: Mapping[str, type] | None = None) -> dict[str, Any]:
    table = read_toml(path)
    if types is not None:
        _check(table, types, str(path))
    return table


def _check(table: Mapping, types: Mapping[str, type], where: str) -> None:
    for name, value in table.items():
        if name not in types:
            raise InputError(f"{where}: no entry {name!r}; there are {', '.join(types)}")
        if not isinstance(value, types[name]):
            raise InputError(f"{where}: {name}: expected {types[name].__name__}, found {value!r}")
