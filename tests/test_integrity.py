"""No directory is read that is not what its manifest says: changed, cut, mixed up or replaced."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import qdeploy
from qdeploy.errors import ModelError, PlanError
from qdeploy.files import integrity, renames
from qdeploy.files.artifact import (
    MANIFEST,
    add_to_manifest,
    read_manifest,
    sha256_stream,
    write_manifest,
)
from qdeploy.files.integrity import digest_of, read_whole, verify
from tests.manifests import fields
from tests.sealed import PAIRS, answers

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


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
    path, reads = tmp_path / "x", list[int]()
    path.write_bytes(b"one")

    def counted(stream: BinaryIO) -> str:
        reads.append(1)
        return sha256_stream(stream)

    monkeypatch.setattr(integrity, "sha256_stream", counted)
    assert digest_of(path) == digest_of(path) and len(reads) == 2  # its times may not tell yet
    monkeypatch.setattr(integrity, "_SETTLED_NS", 0)
    first = digest_of(path)
    assert digest_of(path) == first and len(reads) == 3
    path.rename(tmp_path / "y")
    assert digest_of(tmp_path / "y") == first
    path.write_bytes(b"two")
    assert digest_of(path) != first


def test_a_change_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for count in range(300):
        path.write_bytes(b"%03d" % count)
        assert digest_of(path) == hashlib.sha256(b"%03d" % count).hexdigest()


def test_what_is_no_file_is_not_waited_for(copy: Callable[[str], Path]) -> None:
    for name in ("tokenizer.json", MANIFEST):
        engine = copy("engine")
        (engine / name).unlink()
        os.mkfifo(engine / name)
        with pytest.raises(ModelError, match=r"is no file|holds no qdeploy\.json"):
            qdeploy.load(engine)
        shutil.rmtree(engine)


def test_a_file_that_may_not_be_read_is_not_to_be_made_again(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = copy("engine")
    real = os.open

    def closed(path: Any, *rest: Any, **more: Any) -> int:  # as root every file can be read
        if str(path).endswith("model.onnx"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(ModelError, match=r"model\.onnx cannot be read: Permission denied") as found:
        qdeploy.load(engine)
    assert "again" not in str(found.value)


def test_a_listed_name_cannot_lead_elsewhere(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    write_manifest(directory, "model", fields("model"))
    for name in ("../x", "/etc/passwd", "a/../../x", "..", "a\0b"):
        manifest = json.loads((directory / MANIFEST).read_text()) | {"files": {name: "0" * 64}}
        (directory / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ModelError, match=r"qdeploy\.json is damaged"):
            read_manifest(directory, "model")


def test_verify_names_what_is_wrong(copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    verify(engine, read_manifest(engine, "engine"))
    (engine / "plan.json").unlink()
    with pytest.raises(ModelError, match=r"plan\.json is missing\. Build the engine again"):
        verify(engine, read_manifest(engine, "engine"))


# The manifest itself


QUIET: dict[str, Any] = {
    **{"data": "rows", "rows": 8, "simulated": False, "equal": False, "finite": True},
    **{"answers": 8, "sqnr_db": 90.0, "flipped": 0, "max_abs_diff": 0.1, "warning": None},
}


def rewritten(directory: Path, **changes: Any) -> None:
    """A manifest that somebody edited by hand."""
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["not_entailment", "entailment"]},
        {"head": {"problem_type": "multi_label_classification"}},
        {"max_length": 16},
        {"pad_token_id": 3},
        {"rest_precision": "bf16"},
        {"noise": QUIET},
    ],
)
def test_a_field_that_was_edited_is_refused(
    copy: Callable[[str], Path], changes: dict[str, Any]
) -> None:
    engine = copy("engine")
    rewritten(engine, **changes)
    with pytest.raises(
        ModelError, match=rf"qdeploy\.json is not as .* {next(iter(changes))} is an"
    ):
        qdeploy.load(engine)


def test_a_precision_that_was_taken_out_does_not_become_another(home: Path, tmp_path: Path) -> None:
    directory = tmp_path / "e"
    directory.mkdir()
    write_manifest(directory, "engine", fields("engine", rest_precision="bf16"))
    assert read_manifest(directory, "engine")["rest_precision"] == "bf16"
    manifest = json.loads((directory / MANIFEST).read_text())
    del manifest["rest_precision"]
    (directory / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="rest_precision is missing"):
        read_manifest(directory, "engine")


def test_unknown_fields_are_kept_and_harm_nothing(copy: Callable[[str], Path]) -> None:
    engine, model = copy("engine"), copy("model")
    for directory in (engine, model):
        rewritten(directory, of_tomorrow={"x": [1, 2.5, None]})
    add_to_manifest(engine, "engine", {"cuda_graph": False})
    found: Any = read_manifest(engine, "engine")
    assert found["of_tomorrow"] == {"x": [1, 2.5, None]} and not found["cuda_graph"]
    assert qdeploy.load(engine).predict(PAIRS) and qdeploy.inspect(engine)
    assert qdeploy.inspect(model)
    rewritten(engine, cuda_graph=True)
    with pytest.raises(ModelError, match="cuda_graph is another"):
        qdeploy.load(engine)


def test_an_earlier_version_sealed_nothing(copy: Callable[[str], Path]) -> None:
    engine = copy("engine")
    manifest = json.loads((engine / MANIFEST).read_text())
    del manifest["sealed"]
    (engine / MANIFEST).write_text(json.dumps(manifest | {"labels": ["yes", "no"]}))
    assert qdeploy.load(engine).labels == ("yes", "no")


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
    seen: list[Any] = []
    deadline = time.monotonic() + 60
    try:
        while len(seen) < 30 or not all(found in seen for found in both):
            assert time.monotonic() < deadline, "the two were never swapped"
            seen.append(answers(one))
            assert seen[-1] in both
    finally:
        stop.set()
        writer.join()


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
    from qdeploy.evaluate.loaded_engine import load_engine

    one, other = copy("engine"), copy("other")
    subject = load_engine(one, 1)
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(ModelError, match="was replaced while it was measured"):
        check_int8(one, subject.engine, {}, subject.manifest)
