"""No directory is read that is not what its manifest says: changed, cut, mixed up or replaced."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy import integrity, renames
from qdeploy.artifact import MANIFEST, read_manifest, sha256_file, write_manifest
from qdeploy.errors import ModelError, PlanError, QDeployError
from qdeploy.integrity import digest_of, read_whole, verify
from tests.manifests import fields
from tests.tiny import tiny_checkpoint

PAIRS = [("what is the name of the river", "the river is long"), ("who was king", "a king")]
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model` and its engine `engine`, and `other`, an engine of another model."""
    home = tmp_path_factory.mktemp("integrity")
    for name, seed in (("model", 0), ("model2", 7)):
        checkpoint = tiny_checkpoint(home / f"{name}-checkpoint", "bert", seed=seed)
        qdeploy.export(checkpoint, home / name)
    options: dict[str, Any] = {"calibration_rows": 8, "measure": False}
    qdeploy.build(home / "model", home / "engine", strategy="peg", **options)
    qdeploy.build(home / "model2", home / "other", strategy="peg", **options)
    return home


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(home / name, tmp_path / name))


def answers(directory: Path) -> list[dict[str, float]]:
    return [row.scores for row in qdeploy.load(directory).predict(PAIRS)]


def test_another_models_graph_is_refused(home: Path, copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    shutil.copyfile(home / "other" / "model.onnx", engine / "model.onnx")
    uses: list[Callable[[], object]] = [
        lambda: qdeploy.load(engine),
        lambda: qdeploy.evaluate(engine, latency=False, limit=4),
        lambda: qdeploy.inspect(engine),
    ]
    for use in uses:
        with pytest.raises(ModelError, match=r"model\.onnx is not the file that build wrote"):
            use()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("kind", ["engine", "model"])
def test_every_file_that_is_opened_is_held_against_the_manifest(
    copy: Callable[[str], Path], tmp_path: Path, kind: str, name: str
) -> None:
    directory = copy(kind)
    path = directory / name
    path.write_bytes(path.read_bytes() + b" ")  # as good JSON as before
    with pytest.raises(ModelError, match=f"{name} is not the file that"):
        if kind == "engine":
            qdeploy.load(directory)
        else:
            qdeploy.build(directory, tmp_path / "out", strategy="fp32", measure=False)
    with pytest.raises(ModelError, match=f"{name} is not the file that"):
        qdeploy.inspect(directory)
    path.unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        qdeploy.inspect(directory)


def test_a_file_that_came_later_is_refused(copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    (engine / "model.onnx.data").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model\.onnx\.data is not in qdeploy\.json"):
        qdeploy.load(engine)


def test_by_sizes_alone(copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    content = bytearray((engine / "model.onnx").read_bytes())
    (engine / "model.onnx").write_bytes(content + b"\0")
    with pytest.raises(ModelError, match=r"model\.onnx is not the file"):
        qdeploy.load(engine, verify="stat")
    (engine / "model.onnx").write_bytes(content)
    assert qdeploy.load(engine, verify="stat").predict(PAIRS)
    with pytest.raises(PlanError, match="Unknown way to verify 'never'"):
        qdeploy.load(engine, verify="never")


def test_an_earlier_version_wrote_no_sizes(copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    manifest = json.loads((engine / MANIFEST).read_text())
    del manifest["sizes"]
    (engine / MANIFEST).write_text(json.dumps(manifest))
    for how in integrity.WAYS:
        assert qdeploy.load(engine, verify=how).predict(PAIRS)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = tmp_path / "x", list[Path]()
    path.write_bytes(b"one")

    def counted(file: Path) -> str:
        reads.append(file)
        return sha256_file(file)

    monkeypatch.setattr(integrity, "sha256_file", counted)
    first = digest_of(path)
    assert digest_of(path) == first and len(reads) == 1
    path.write_bytes(b"two")
    assert digest_of(path) != first and len(reads) == 2


def test_a_listed_name_cannot_lead_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    write_manifest(directory, "model", fields("model"))
    for name in ("../x", "/etc/passwd", "a/../../x", "..", "a\0b"):
        manifest = json.loads((directory / MANIFEST).read_text()) | {"files": {name: "0" * 64}}
        (directory / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ModelError, match=r"qdeploy\.json is damaged"):
            read_manifest(directory, "model")


# Mutations


def _values(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _values(value[key], (*path, key))


WRONG = [None, [], {}, "", "x", -1, 0.5, 1e308, True, [None], {"a": 1}, "../x", 2**70]


def _changed(text: str, rng: random.Random) -> str:
    """A JSON text with one thing wrong."""
    kind = rng.choice(("drop", "value", "value", "nan", "cut", "deep", "whole"))
    if kind == "cut":
        return text[: rng.randrange(len(text))]
    if kind == "deep":
        return "[" * 100_000
    if kind == "whole":
        return json.dumps(rng.choice(WRONG))
    value = json.loads(text)
    path = rng.choice(list(_values(value)))
    at = value
    for key in path[:-1]:
        at = at[key]
    if kind == "drop":
        del at[path[-1]]
    else:
        at[path[-1]] = float("nan") if kind == "nan" else rng.choice(WRONG)
    return json.dumps(value)


def _mutate(directory: Path, rng: random.Random) -> str:
    """Damage one file of a directory; its name."""
    path = rng.choice(sorted(p for p in directory.iterdir() if p.is_file()))
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.8:
        path.write_text(_changed(content.decode(), rng), "utf-8", "surrogatepass")
        if path.name != MANIFEST and rng.random() < 0.7:  # signed, as by who made it
            manifest = json.loads((directory / MANIFEST).read_text())
            manifest["files"][path.name] = sha256_file(path)
            (directory / MANIFEST).write_text(json.dumps(manifest))
    elif rng.random() < 0.2:
        path.unlink()
    else:
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 64))):
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
    return path.name


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_engine_is_refused_or_answers_as_before(
    home: Path, copy: Callable[[str], Path], seed: int
) -> None:
    expected = answers(home / "engine")
    engine = copy("engine")
    name = _mutate(engine, random.Random(seed))
    for use in (lambda: answers(engine), lambda: qdeploy.inspect(engine)):
        try:
            found = use()
        except QDeployError as error:
            assert name in str(error) or "engine" in str(error), error
        else:
            # a class may have got another name: the file says so, and it is signed by its maker
            values = [list(row.values()) for row in found] if isinstance(found, list) else None
            assert values in (None, [list(row.values()) for row in expected])


@pytest.mark.parametrize("seed", range(20))
def test_a_mutated_model_is_refused_or_builds(
    copy: Callable[[str], Path], tmp_path: Path, seed: int
) -> None:
    model = copy("model")
    shutil.rmtree(model / "statistics")
    _mutate(model, random.Random(1000 + seed))
    options: dict[str, Any] = {"strategy": "w8a8", "calibration_rows": 4}
    try:
        qdeploy.build(model, tmp_path / "out", **options)
    except QDeployError:
        assert not (tmp_path / "out").exists()
    else:
        assert qdeploy.load(tmp_path / "out").logits(PAIRS)


# Replaced while it is read


def test_a_reader_gets_the_old_or_the_new_one(home: Path, copy: Callable[[str], Path]) -> None:
    one, other = copy("engine"), copy("other")
    if not renames.exchange(one, other):
        pytest.skip("this file system cannot swap two names")
    both = [answers(one), answers(other)]
    assert both[0] != both[1]
    stop, rng = threading.Event(), random.Random(0)

    def swap() -> None:
        while not stop.is_set():
            renames.exchange(one, other)
            time.sleep(rng.uniform(0.05, 0.6))

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        seen = [answers(one) for _ in range(30)]
    finally:
        stop.set()
        writer.join()
    assert all(found in both for found in seen)
    assert any(found == both[0] for found in seen) and any(found == both[1] for found in seen)


def test_a_directory_that_is_never_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_PATIENCE_S", 0.1)
    directory = tmp_path / "e"
    directory.mkdir()

    def read() -> None:
        (directory / MANIFEST).write_text(str(time.monotonic_ns()))

    with pytest.raises(ModelError, match="replaced again and again"):
        read_whole(directory, read)


def test_an_error_of_a_directory_at_rest_is_not_repeated(tmp_path: Path) -> None:
    calls = []

    def read() -> None:
        calls.append(1)
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        read_whole(tmp_path, read)
    assert len(calls) == 1


def test_an_engine_that_was_replaced_while_it_was_measured(
    home: Path, copy: Callable[[str], Path]
) -> None:
    from qdeploy.deploy.certificate import check_int8
    from qdeploy.evaluate.subject import open_subject

    one, other = copy("engine"), copy("other")
    subject = open_subject(one, 1)
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(ModelError, match="was replaced while it was measured"):
        check_int8(one, subject.engine, {}, subject.manifest)


def test_verify_names_what_is_wrong(copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    verify(engine, read_manifest(engine, "engine"))
    (engine / "plan.json").unlink()
    with pytest.raises(ModelError, match=r"plan\.json is missing\. Build the engine again"):
        verify(engine, read_manifest(engine, "engine"))
