"""`qdeploy verify`: what holds, and everything that must not."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import DataError, GateError, ModelError
from qdeploy.files.artifact import MANIFEST, read_json, read_manifest
from tests import manifests
from tests.deploy.test_runtime import ABSENT, run_without
from tests.verification.conftest import SIZES, Copy, failed, states

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


@pytest.mark.parametrize("hidden", SIZES)
def test_an_engine_holds_where_it_was_built(engine: Callable[..., Path], hidden: int) -> None:
    found = qdeploy.verify(engine(hidden=hidden))
    known = states(found)
    assert known.pop("signature") == "not checked" and known.pop("processor") in STATES
    assert known == {
        "files": "ok",
        "tokenizer": "ok",
        "numbers": "ok",
        "kernels": "ok",
        "latency": "note",
    }
    numbers = found["numbers"]
    assert numbers["rows"] == numbers["equal_rows"] == 16 and numbers["sqnr_db"] is None
    assert found["ok"] and found["latency"]["p50_ms"] > 0 and found["latency"]["shape"][0] == 1


STATES = ("ok", "not checked")


@functools.cache
def _files(directory: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in directory.iterdir() if path.is_file()))


def test_the_engine_that_is_damaged_has_external_data(engine: Callable[..., Path]) -> None:
    names = {path.name for path in _files(engine())}
    assert {"model.onnx", "model.onnx.data", "canary.json", MANIFEST} <= names


@pytest.mark.parametrize("hidden", SIZES)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_one_changed_byte_anywhere_is_caught(
    engine: Callable[..., Path], tmp_path: Path, hidden: int, data: st.DataObject
) -> None:
    source = engine(hidden=hidden)
    copied = tmp_path / "engine"
    if not copied.exists():
        shutil.copytree(source, copied)
    file = data.draw(st.sampled_from(_files(source)))
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (copied / file.name).write_bytes(content)
    try:
        found = failed(copied)
    finally:
        shutil.copyfile(file, copied / file.name)
    assert list(found) == ["files"] and file.name in found["files"]


def test_every_byte_of_the_manifest_counts(copy: Copy) -> None:
    directory = copy()
    whole = (directory / MANIFEST).read_bytes()
    for at in [*range(0, len(whole), 97), *range(len(whole) - 8, len(whole))]:
        other = b"\t" if whole[at : at + 1] == b" " else b" "  # JSON that may say the same
        (directory / MANIFEST).write_bytes(whole[:at] + other + whole[at + 1 :])
        assert "files" in failed(directory), at
    (directory / MANIFEST).write_bytes(whole)
    assert failed(directory) == {}


def test_a_file_too_few_and_one_too_many(copy: Copy) -> None:
    directory = copy()
    (directory / "more.bin").write_bytes(b"x")
    (directory / "deep").mkdir()
    (directory / "deep" / "er.txt").write_bytes(b"x")
    text = failed(directory)["files"]
    assert "more.bin came later" in text and re.search(r"deep.er\.txt came later", text)
    (directory / "more.bin").unlink()
    shutil.rmtree(directory / "deep")
    assert failed(directory) == {}
    (directory / "README.md").unlink()
    assert failed(directory)["files"] == "README.md is missing"


def test_links_and_pipes_came_later_too(copy: Copy, tmp_path: Path) -> None:
    directory = copy()
    (directory / "dangling").symlink_to(tmp_path / "nowhere")
    (directory / "folder").symlink_to(tmp_path)
    os.mkfifo(directory / "pipe")
    text = failed(directory)["files"]
    assert all(f"{name} came later" in text for name in ("dangling", "folder", "pipe"))


@pytest.mark.parametrize(("hidden", "other"), [(32, 32), (64, 64), (32, 64)])
def test_another_model_under_a_consistent_manifest_is_caught(
    copy: Copy, engine: Callable[..., Path], hidden: int, other: int
) -> None:
    directory, stranger = copy(hidden=hidden), engine(hidden=other, seed=1)
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(stranger / name, directory / name)
    manifests.sign(directory)
    found = failed(directory)
    assert "numbers" in found and "files" not in found
    assert re.search(r"dB to the outputs of the build on 16 rows \(.* at least\)", found["numbers"])
    with pytest.raises(GateError) as caught:
        qdeploy.load(directory, verify=True)
    numbers = caught.value.report["numbers"]
    assert max(numbers["row_diffs"]) > numbers["most_abs_diff"]
    assert numbers["sqnr_db"] < numbers["least_sqnr_db"]


def test_another_tokenizer_under_a_consistent_manifest_is_caught(copy: Copy) -> None:
    directory = copy()
    tokenizer = read_json(directory / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["o"], vocabulary["e"] = vocabulary["e"], vocabulary["o"]
    vocabulary["##o"], vocabulary["##e"] = vocabulary["##e"], vocabulary["##o"]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    manifests.sign(directory)
    found = failed(directory)
    assert list(found) == ["tokenizer"] and "other tokens for" in found["tokenizer"]


@pytest.mark.parametrize("hidden", SIZES)
def test_a_graph_that_lost_int8_is_caught(
    copy: Copy, engine: Callable[..., Path], hidden: int
) -> None:
    """Its outputs are better than those of the engine: the kernels tell."""
    directory, plain = copy(hidden=hidden), engine(hidden=hidden, strategy="fp32")
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(plain / name, directory / name)
    manifests.sign(directory)
    found = failed(directory)
    assert (
        list(found) == ["kernels"] and "that ran in INT8 at build did not here" in found["kernels"]
    )
    code = f"import qdeploy; qdeploy.verify({str(directory)!r})"
    status, _, said = run_without(ABSENT, code)
    assert status == 1 and "kernels: 0 calls of INT8 kernels in a run" in said


def test_nothing_that_makes_engines_is_needed(engine: Callable[..., Path]) -> None:
    code = (
        "import json, qdeploy; found = qdeploy.verify(sys.argv[1]);"
        "qdeploy.load(sys.argv[1], verify=True).predict([('a', 'b')]); print(json.dumps(found))"
    )
    status, out, said = run_without(ABSENT, code, str(engine()))
    assert status == 0, said
    found = json.loads(out)
    assert states(found)["kernels"] == states(found)["numbers"] == "ok"
    text = next(one["text"] for one in found["checks"] if one["name"] == "kernels")
    assert re.fullmatch(r"(\d+) calls of INT8 kernels in a run, \1 at build", text)


def test_a_verified_engine_answers(engine: Callable[..., Path]) -> None:
    pair = [("what is the river", "the river is long")]
    assert qdeploy.load(engine(), verify=True).predict(pair) == qdeploy.load(engine()).predict(pair)


def test_what_was_not_checked_is_said(copy: Copy, engine: Callable[..., Path]) -> None:
    found = qdeploy.verify(engine(dry_run=True))
    assert not (engine(dry_run=True) / "canary.json").exists()
    known = states(found)
    assert known.pop("files") == "ok" and known.pop("processor") in STATES
    assert set(known.values()) == {"not checked"}
    texts = {one["name"]: one["text"] for one in found["checks"]}
    assert "no canary.json" in texts["tokenizer"] and "a dry run" in texts["numbers"]
    plain = states(qdeploy.verify(engine(strategy="fp32")))
    assert plain["kernels"] == "not checked" and plain["numbers"] == "ok"
    bare = copy("bare")
    (bare / "canary.json").unlink()
    manifests.sign(bare)
    kept = read_manifest(bare, "engine")["files"]
    assert "canary.json" not in kept and states(qdeploy.verify(bare))["numbers"] == "not checked"


def test_an_engine_of_an_earlier_version_is_to_be_built_again(
    copy: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no canary.json, no processors in its certificate, and no digest in its manifest."""
    directory = copy()
    (directory / "canary.json").unlink()
    (directory / "bom.cdx.json").unlink()
    certificate = read_json(directory / "certificate.json")
    del certificate["processors"]
    (directory / "certificate.json").write_text(json.dumps(certificate))
    manifests.sign(directory)
    found = qdeploy.verify(directory)  # one of this version that was made so by hand
    texts = {one["name"]: one["text"] for one in found["checks"] if one["state"] == "not checked"}
    assert texts["processor"].endswith(
        "an earlier qdeploy built the engine. Build it again with this version"
    )
    assert "Build the engine again on a machine that runs it" in texts["numbers"]
    manifest = read_json(directory / MANIFEST)
    del manifest["digest"]
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True))
    again = (
        "qdeploy.json has no digest of itself: it was written again by something else, or an "
        "earlier qdeploy built the engine. Build it again with this version"
    )
    assert failed(directory) == {"files": again}
    assert qdeploy.load(directory).predict([("a", "b")])  # it answers as before
    assert main(["verify", str(directory), "-q"]) == 1
    assert capsys.readouterr().err.rstrip().endswith(f"{again}.")
    if importlib.util.find_spec("model_signing"):
        with pytest.raises(ModelError, match="is not signed: .* Build it again with this version"):
            qdeploy.sign(directory, sigstore=True)


def test_every_failed_check_says_what_to_do_next(copy: Copy, engine: Callable[..., Path]) -> None:
    def said(directory: Path, **options: Any) -> str:
        with pytest.raises(GateError) as caught:
            qdeploy.verify(directory, **options)
        return str(caught.value)

    directory = copy()
    (directory / "more.bin").write_bytes(b"x")
    assert said(directory).endswith(
        "more.bin came later. Take the directory anew from where it was built, or build the engine "
        "again."
    )
    (directory / "more.bin").unlink()
    assert "name the signer that you expect" in said(directory, public_key=directory / MANIFEST)
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(engine(seed=1) / name, directory / name)
    manifests.sign(directory)
    assert said(directory).endswith("or build the engine here.")


def test_latency_stands_beside_a_report(engine: Callable[..., Path], tmp_path: Path) -> None:
    report = qdeploy.evaluate(engine(), seq_len=16, batch_size=2, limit=8, iterations=3, warmup=1)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report), "utf-8")
    found = qdeploy.verify(engine(), report=file)["latency"]
    assert found["shape"] == [2, 16] and found["reported_ms"] == report["latency_ms"]["p50"]
    file.write_text("{}", "utf-8")
    with pytest.raises(DataError, match="Name a report that `qdeploy eval --json FILE` wrote"):
        qdeploy.verify(engine(), report=file)


def test_the_command(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copy()
    assert main(["verify", str(directory)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"ok +numbers", said) and re.search(r"[45] ok, [12] not checked", said)
    assert main(["verify", str(directory), "--json", "-"]) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["target"] == "ort-cpu"
    (directory / "plan.json").write_bytes(b"{}")
    assert main(["verify", str(directory), "-q"]) == 1
    both = capsys.readouterr()
    assert both.out == "" and "files: plan.json is not the file that was built." in both.err
    assert main(["verify", str(directory), "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_what_is_no_engine_is_wrong_use(exported: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is of kind 'model'"):
        qdeploy.verify(exported().model_dir)
    with pytest.raises(ModelError, match="does not exist"):
        qdeploy.verify(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="holds no qdeploy.json"):
        qdeploy.verify(tmp_path)
