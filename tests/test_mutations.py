"""A directory that was damaged is refused with the file's name, or gives what it gave before."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.calibrate.statistics import Statistics
from qdeploy.errors import QDeployError, StatisticsError
from qdeploy.files.artifact import MANIFEST
from tests.mutations import flipped, mutate
from tests.sealed import PAIRS, ROWS, answers

SEEDS, BUILDS = 80, 12
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


def report(directory: Path) -> dict[str, Any]:
    """What `eval` says of the answers."""
    found = qdeploy.evaluate(directory, latency=False, limit=4)
    return {name: found[name] for name in ("metrics", "target", "strategy", "labels")}


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, tuple[Any, Any, Any]]:
    """By engine: answers, what is inspected, the report."""
    return {
        name: (answers(home / name), qdeploy.inspect(home / name), report(home / name))
        for name in ("engine", "other")
    }


def refused(error: QDeployError, directory: Path, name: str) -> None:
    """An error names the file that is at fault, or the directory where that one says what it is."""
    text = str(error)
    assert str(directory / name) in text or (name == MANIFEST and str(directory) in text), text
    assert "/proc/" not in text


@pytest.mark.parametrize("seed", range(SEEDS))
def test_engines(
    copy: Callable[[str], Path], expected: dict[str, tuple[Any, Any, Any]], seed: int
) -> None:
    rng, name = random.Random(seed), ("engine", "other")[seed % 2]
    engine = copy(name)
    file = mutate(engine, rng)
    uses: list[Callable[[Path], Any]] = [answers, qdeploy.inspect]
    uses += [report] if seed % 4 == 0 else []
    for use, before in zip(uses, expected[name], strict=False):
        try:
            found = use(engine)
        except QDeployError as error:
            refused(error, engine, file)
        else:
            assert found == before


@pytest.mark.parametrize("seed", range(SEEDS))
def test_files_that_were_signed_again(copy: Callable[[str], Path], seed: int) -> None:
    """Only the schemas are left to refuse them: there is an error, or an answer, and no crash."""
    engine = copy(("engine", "other")[seed % 2])
    file = mutate(engine, random.Random(1000 + seed), signed=True)
    uses: list[Callable[[Path], Any]] = [answers, qdeploy.inspect]
    for use in uses + ([report] if seed % 4 == 0 else []):
        try:
            use(engine)
        except QDeployError as error:
            assert file in str(error) or "tokenizer" in file, error
            assert "/proc/" not in str(error)


@pytest.mark.parametrize("seed", range(BUILDS))
def test_models(home: Path, copy: Callable[[str], Path], tmp_path: Path, seed: int) -> None:
    rng = random.Random(2000 + seed)
    name, engine = (("model", "engine"), ("other-model", "other"))[seed % 2]
    model = copy(name)
    file = mutate(model, rng)
    options: dict[str, Any] = {"strategy": "peg", "calibration_rows": ROWS, "measure": False}
    try:
        qdeploy.build(model, tmp_path / "out", **options)
    except QDeployError as error:
        refused(error, model, file)
        assert not (tmp_path / "out").exists()
    else:
        for part in ("model.onnx", "plan.json"):
            built = (tmp_path / "out" / part).read_bytes()
            assert built == (home / engine / part).read_bytes()
    try:
        qdeploy.inspect(model)
    except QDeployError as error:
        refused(error, model, file)


# Statistics


@pytest.fixture
def kept(copy: Callable[[str], Path]) -> Path:
    return next((copy("model") / "statistics").glob("*.npz"))


def test_flipped_statistics_are_refused_or_the_same(kept: Path) -> None:
    content, rng, refusals = kept.read_bytes(), random.Random(0), 0
    before = Statistics.load(kept)
    for _ in range(150):
        kept.write_bytes(flipped(content, rng))
        try:
            found = Statistics.load(kept)
        except StatisticsError as error:
            refusals += 1
            assert str(kept) in str(error)
            continue
        assert found.origin == before.origin and list(found.sites) == list(before.sites)
        for name, site in before.sites.items():
            np.testing.assert_array_equal(found.sites[name].sums, site.sums)
            assert (found.sites[name].tokens is None) == (site.tokens is None)
    assert refusals > 100


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def _set(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(arrays: dict[str, Any]) -> None:
        key = next(key for key in arrays if key.endswith(f"/{name}"))
        arrays[key] = change(arrays[key])

    return apply


def _with(value: float, at: Any = 0) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[at] = value
        return array

    return change


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    def apply(arrays: dict[str, Any]) -> None:
        del arrays[next(key for key in arrays if key.endswith(f"/{name}"))]

    return apply


FAULTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "NaN sums": _set("sums", _with(np.nan)),
    "infinite sums": _set("sums", _with(np.inf)),
    "sums beyond the range": _set("sums", _with(1e30)),
    "ranges of 5 of 32 channels": _set("range", lambda array: array[:, :5]),
    "sums of 5 of 32 channels": _set("sums", lambda array: array[:, :5]),
    "a minimum above its maximum": _set("range", lambda array: array[::-1]),
    "a negative count": _set("shape", _with(-1)),
    "a count of none": _set("shape", _with(0)),
    "an exponent out of range": _set("shape", _with(4000, 1)),
    "a negative histogram": _set("histogram", lambda array: -array),
    "another histogram": _set("histogram", lambda array: array * 2),
    "a short histogram": _set("histogram", lambda array: array[:-1]),
    "tokens of other classes": _set("tokens", lambda array: array[:-1]),
    "tokens of other channels": _set("by_token", lambda array: array[..., :-1]),
    "no tokens": _without("tokens"),
    "no sums": _without("sums"),
    "texts": _set("sums", lambda array: array.astype(str)),
    "no origin": lambda arrays: arrays.pop("origin"),
    "an origin that is a list": lambda arrays: arrays.update(origin=np.array("[]")),
    "an origin that is deep": lambda arrays: arrays.update(origin=np.array("[" * 100_000)),
    "an origin of other types": lambda arrays: arrays.update(
        origin=np.array(str(arrays["origin"]).replace('"rows": 8', '"rows": "eight"'))
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_impossible_statistics_are_refused_and_made_anew(
    kept: Path, tmp_path: Path, fault: str
) -> None:
    model, before = kept.parent.parent, Statistics.load(kept)
    arrays = _arrays(kept)
    FAULTS[fault](arrays)
    np.savez_compressed(kept, allow_pickle=False, **arrays)
    with pytest.raises(StatisticsError, match=rf"{kept}.*Leave --statistics out") as found:
        qdeploy.build(model, tmp_path / "out", strategy="w8a8", statistics=kept)
    assert "again" not in str(found.value)
    assert qdeploy.calibrate(model, calibration_rows=ROWS) == kept
    after = Statistics.load(kept)
    assert after.origin == before.origin
    for name, site in before.sites.items():
        np.testing.assert_array_equal(after.sites[name].sums, site.sums)


def test_unknown_fields_of_statistics_harm_nothing(kept: Path) -> None:
    arrays = _arrays(kept)
    origin = str(arrays["origin"])
    arrays["origin"] = np.array(origin[:-1] + ', "of_tomorrow": [1]}')
    arrays["tomorrow/array"] = np.ones(3)
    written = kept.stat().st_mtime_ns
    np.savez_compressed(kept, allow_pickle=False, **arrays)
    assert Statistics.load(kept).sites.keys() and written


def test_statistics_that_do_not_fit_the_model_are_made_anew(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    """Under the right name and of the right rows, but with sites of another model: nothing in the
    file tells, and calibrating again has to mend it."""
    model, other = copy("model"), copy("other-model")
    own = next((model / "statistics").glob("*.npz"))
    foreign = Statistics.load(next((other / "statistics").glob("*.npz")))
    origin = Statistics.load(own).origin
    Statistics(origin, foreign.sites).save(own)
    with pytest.raises(StatisticsError, match=rf"{own} do not fit this model: they hold 64 chann"):
        qdeploy.build(model, tmp_path / "out", strategy="w8a8", statistics=own)
    with pytest.raises(StatisticsError, match=rf"{own} do not fit this model"):
        qdeploy.analyze(model, statistics=own, cost_rows=0)
    assert qdeploy.build(model, tmp_path / "out", strategy="w8a8", calibration_rows=ROWS)
    assert Statistics.load(own).sites["layer_norm"].channels == 32
    assert answers(tmp_path / "out") and PAIRS
