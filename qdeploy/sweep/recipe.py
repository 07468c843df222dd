"""A recipe: which engines a sweep builds and how it measures them, read from YAML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from qdeploy.calibrate.options import AUTO, NONE
from qdeploy.calibrate.strategies import STRATEGIES
from qdeploy.deploy.options import BuildOptions, parse_shape
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import PlanError, choose
from qdeploy.files.artifact import package_versions
from qdeploy.machine.faults import explain
from qdeploy.machine.threads import check_threads
from qdeploy.options import make, specs
from qdeploy.schemas.sweep import RecipeProtocol, Resources, Setting

_SECTIONS = (
    *("task", "columns", "max_length", "calibration", "accuracy"),
    *("latency", "resources", "trials"),
)
# What `build` decides by itself or a sweep decides for all trials.
_NOT_OF_A_TRIAL = frozenset(
    {
        *("data", "task", "columns", "calibration_rows", "max_length", "statistics", "seed"),
        *("dry_run", "max_drop", "metric"),
    }
)
BUILD_OPTIONS = tuple(name for name in specs(BuildOptions) if name not in _NOT_OF_A_TRIAL)
FP32: dict[str, object] = {"strategy": "fp32"}
_RESOURCES = ("num_cpus", "num_gpus", "resources")  # as Ray's tasks take them


@dataclass(frozen=True)
class Trial:
    """One engine to build: options of `qdeploy build`, as the recipe gives them."""

    settings: dict[str, object]

    @property
    def label(self) -> str:
        """Strategy, and what else was set, in the recipe's order."""
        rest = [
            value if isinstance(value, str) and value not in (AUTO, NONE) else f"{name}={value}"
            for name, value in self.settings.items()
            if name != "strategy"
        ]
        return " ".join([str(self.settings["strategy"]), *rest])

    @property
    def target(self) -> str:
        """What it runs on."""
        return str(self.settings.get("target", "ort-cpu"))

    def key(self, setting: Setting) -> str:
        """Name of the trial's folder: a hash of what decides its result.

        Args:
            setting: what all trials share: model, rows, protocol and versions.
        """
        text = json.dumps([self.settings, setting], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Recipe:
    """A sweep, checked.

    Attributes:
        trials: in the order of the file, without repetition; the FP32 baseline is none of them.
        task, columns: see `qdeploy.api.evaluate`.
        max_length: tokens kept of a row, calibrating or evaluated; None is the model's own limit,
            at most 512.
        rows, seed: of the calibration.
        limit: evaluation rows from the start; None for all.
        shapes: latency shapes (rows, tokens); the first is the one compared.
        warmup, iterations, threads: of the latency.
        resources: by target, what a trial asks of a cluster ("default" for the others).
    """

    trials: tuple[Trial, ...]
    task: str = AUTO
    columns: str | None = None
    max_length: int | None = None
    rows: int = 128
    seed: int = 0
    limit: int | None = None
    shapes: tuple[tuple[int, int], ...] = ((8, 128),)
    warmup: int = 100
    iterations: int = 500
    threads: int = 2
    resources: dict[str, Resources] = field(default_factory=dict)

    @property
    def gathers(self) -> dict[str, Any]:
        """What the calibration that all trials share gathers beyond ranges, by keyword."""
        asked = [make(BuildOptions, trial.settings) for trial in self.trials]
        return {
            "second_moments": any(options.compensates for options in asked),
            "sensitivity": any(options.weighs_sites for options in asked),
        }

    def protocol(self) -> RecipeProtocol:
        """What decides the figures of every trial, for their keys."""
        return {
            "task": self.task,
            "columns": self.columns,
            "max_length": self.max_length,
            "rows": self.rows,
            "seed": self.seed,
            "limit": self.limit,
            "shapes": self.shapes,
            "warmup": self.warmup,
            "iterations": self.iterations,
            "threads": self.threads,
        }

    def setting(self, model: str, statistics: Path, rows: Path) -> Setting:
        """What decides the figures of every trial.

        Args:
            model: digest of the model.
            statistics, rows: files that all trials share.
        """
        return {
            "model": model,
            "statistics": statistics.stem,
            "rows": hashlib.sha256(rows.read_bytes()).hexdigest(),
            "protocol": self.protocol(),
            "versions": package_versions(),
        }


def read_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe; docs/sweeps.md says what it may hold.

    Raises:
        PlanError: no such file, or something in it that cannot be followed, with where it stands.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise PlanError(f"{path} does not exist. Recipes are YAML files: see recipes/.") from None
    except OSError as error:
        raise explain(error, cls=PlanError) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlanError(f"{path} cannot be read as YAML: {error}") from error
    try:
        return parse_recipe(found)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def parse_recipe(found: object) -> Recipe:
    """A recipe from what its YAML holds.

    Raises:
        PlanError: something in it that cannot be followed.
    """
    top = _mapping(found, "the recipe")
    for name in top:
        choose("section", name, _SECTIONS, PlanError)
    calibration = _section(top, "calibration", {"rows": 128, "seed": 0})
    accuracy = _section(top, "accuracy", {"limit": None})
    latency = _section(
        top, "latency", {"shapes": ["8x128"], "warmup": 100, "iterations": 500, "threads": 2}
    )
    trials = tuple(_trials(top.get("trials")))
    if not trials:
        raise PlanError("it names no trial. List them under `trials:`.")
    shapes = tuple(parse_shape(str(shape)) for shape in _many(latency["shapes"]))
    if not shapes:
        raise PlanError("`latency.shapes` is empty. Name at least one, such as 8x128.")
    resources = _mapping(top.get("resources") or {}, "`resources`")
    for target in resources:
        choose("target under `resources`", target, ("default", *TARGETS), PlanError)
    columns = top.get("columns")
    if columns is not None and not isinstance(columns, str):
        raise PlanError(f"`columns` is {columns!r}; give names as in label=COLUMN.")
    return Recipe(
        trials=trials,
        task=str(top.get("task", AUTO)),
        columns=columns,
        max_length=None
        if (tokens := top.get("max_length")) is None
        else _count(tokens, "max_length"),
        rows=_count(calibration["rows"], "calibration.rows"),
        seed=_count(calibration["seed"], "calibration.seed", least=0),
        limit=None if accuracy["limit"] is None else _count(accuracy["limit"], "accuracy.limit"),
        shapes=shapes,
        warmup=_count(latency["warmup"], "latency.warmup", least=0),
        iterations=_count(latency["iterations"], "latency.iterations"),
        threads=check_threads(_count(latency["threads"], "latency.threads")),
        resources={target: _resources(target, wanted) for target, wanted in resources.items()},
    )


def _resources(target: str, value: object) -> Resources:
    where = f"`resources.{target}`"
    wanted = _mapping(value, where)
    for name in wanted:
        choose(f"resource of {target}", name, _RESOURCES, PlanError)
    found: Resources = {}
    if "num_cpus" in wanted:
        found["num_cpus"] = _amount(wanted["num_cpus"], f"{where}: num_cpus")
    if "num_gpus" in wanted:
        found["num_gpus"] = _amount(wanted["num_gpus"], f"{where}: num_gpus")
    if "resources" in wanted:
        labels = _mapping(wanted["resources"], f"{where}: resources")
        found["resources"] = {n: _amount(v, f"{where}: {n}") for n, v in labels.items()}
    return found


def _trials(entries: object) -> Iterator[Trial]:
    """Each entry times its lists: {groups: [2, 4], grouping: [sorted, optimal]} is four trials."""
    seen: list[dict[str, object]] = []
    for number, entry in enumerate(_many(entries or ()), 1):
        where = f"trial {number}"
        options = _mapping(entry, where)
        for name in options:
            choose(f"option of {where}", name, BUILD_OPTIONS, PlanError)
        values = {"strategy": _many(options.get("strategy"))} | {
            name: _many(value) for name, value in options.items()
        }
        for strategy in values["strategy"]:
            choose(f"strategy of {where}", str(strategy), STRATEGIES, PlanError)
        for target in values.get("target", ()):
            choose(f"target of {where}", str(target), tuple(TARGETS), PlanError)
        for chosen in product(*values.values()):
            trial = Trial(dict(zip(values, chosen, strict=True)))
            if trial.settings != FP32 and trial.settings not in seen:
                _check_options(trial.settings, where)
                seen.append(trial.settings)
                yield trial


def _check_options(settings: Mapping[str, object], where: str) -> None:
    """Refuse values that a build would refuse, before anything is built.

    Raises:
        PlanError: with the trial's number.
    """
    try:
        make(BuildOptions, settings)
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from None


def _section(
    top: Mapping[str, object], name: str, defaults: dict[str, object]
) -> dict[str, object]:
    given = _mapping(top.get(name) or {}, f"`{name}`")
    for key in given:
        choose(f"key under `{name}`", key, tuple(defaults), PlanError)
    return defaults | given


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise PlanError(f"{where} is {value!r}, and names with values were expected.")
    return {str(name): inner for name, inner in value.items()}


def _many(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _amount(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise PlanError(f"{where} is {value!r}; give a number.")
    return value


def _count(value: object, where: str, *, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise PlanError(f"`{where}` is {value!r}; give a whole number from {least} up.")
    return value
