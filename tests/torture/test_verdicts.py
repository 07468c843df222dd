"""The campaign's judgements, on runs whose verdict is known: it can fail."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.torture import damaged, full, hostile, rows, shown, table, whole
from tests.torture.calls import ERROR, replied
from tests.torture.ground import (
    CLEAR,
    HUNG,
    HUNG_CODE,
    LOST,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    close_to,
    told,
)
from tests.torture.hostile_files import KINDS, OUTSIDE, hostile_files


@pytest.mark.parametrize(
    ("code", "text", "verdict"),
    [
        (0, "", WORKED),
        (2, "Error: x does not exist. Name another.", CLEAR),
        (2, "Error: the disk is full. Make room.", UNEXPECTED),  # which one?
        (2, "", UNEXPECTED),
        (1, "Traceback (most recent call last): x", UNEXPECTED),
        (70, "Error: qdeploy failed unexpectedly: x", UNEXPECTED),
        (-11, "", UNEXPECTED),
        (HUNG_CODE, "", HUNG),
    ],
)
def test_commands(code: int, text: str, verdict: str) -> None:
    assert told(code, text, "x") == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ({"value": 1}, WORKED),
        ({"hung": 1}, HUNG),
        ({"died": -11}, UNEXPECTED),
        ({"classes": ["builtins.KeyError"], "text": "labels"}, UNEXPECTED),
        ({"classes": ["qdeploy.errors.ModelError", ERROR], "text": "/x/model.onnx is …"}, CLEAR),
        ({"classes": ["qdeploy.errors.ModelError", ERROR], "text": "broken"}, UNEXPECTED),
    ],
)
def test_replies(reply: dict[str, object], verdict: str) -> None:
    assert replied(reply, "model.onnx") == verdict


def test_scores_are_equal_but_for_rounding() -> None:
    assert close_to(["a", 0.5, "b", 0.5], ["a", 0.5, "b", 0.50001])
    assert not close_to(["a", 0.5, "b", 0.5], ["a", 0.5, "b", 0.6])
    assert not close_to(["a", 0.5], ["b", 0.5]) and close_to(["a", 0.5], ["b", 0.5], names=False)
    assert not close_to(["a", 0.5], ["a"])


def test_what_is_left_is_seen(tmp_path: Path) -> None:
    for name in ("out", ".out.1.partial", ".out.1.lease", "qdeploy-auto-x", "notes", ".ses"):
        (tmp_path / name).touch()
    assert len(whole.hidden(tmp_path)) == 3


def test_processes_of_a_campaign_are_found(tmp_path: Path) -> None:
    ground = Ground(tmp_path, tmp_path)
    assert not ground.processes()
    sleeping = subprocess.Popen(["sleep", "60"], **ground.where)
    try:
        assert ground.processes() == [sleeping.pid]
    finally:
        sleeping.kill()
        sleeping.wait()
    assert not ground.processes()


def test_cut_files_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"old": tru')
    (tmp_path / "b.html").write_text("<html><body>")
    (tmp_path / "c.npz").write_bytes(b"PK")
    (tmp_path / "d.json").write_text("{}")
    (tmp_path / ".e.json").write_text("")  # under no final name
    assert [name.split()[0] for name in whole.cut_files(tmp_path)] == ["a.json", "b.html", "c.npz"]


def test_directories_are_held_against_their_manifest(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    assert not whole.whole_directory(tmp_path)
    (tmp_path / whole.MANIFEST).write_text('{"files": {}}')
    whole.sign(tmp_path / "model.onnx")
    assert whole.whole_directory(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"y")
    assert not whole.whole_directory(tmp_path)


def test_readings_of_a_file_are_seen(tmp_path: Path) -> None:
    if not whole.atime_moves(tmp_path):
        pytest.skip("no time of access on this file system")
    path = whole.watched(tmp_path / "canary", b"x")
    path.stat()
    assert not whole.was_read(path)
    path.read_bytes()
    assert whole.was_read(path)


@pytest.mark.parametrize(
    ("text", "name", "fine"),
    [
        ("engine /x/e[v2] (peg)", "e[v2]", True),
        ("engine /x/bold (peg)", "[red]bold[/red]", False),
        ("engine /x/[red]bold[/red] (peg)", "[red]bold[/red]", True),
        ("engine /x/\x1b[31mred", "\x1b[31mred", False),
        ("engine /x/\\x1b[31mred", "\x1b[31mred", True),
        ("the class line\nbreak", "line\nbreak", False),
        ("\u202egnirts", "\u202egnirts", False),
    ],
)
def test_names_that_are_no_text(text: str, name: str, fine: bool) -> None:
    assert (shown.fault(text, name) == "") == fine


def test_markup_in_a_page_is_seen(tmp_path: Path) -> None:
    page, other = tmp_path / "a.html", tmp_path / "b.html"
    page.write_text("<p class=x>a &lt;script&gt;</p>")
    other.write_text("<p class=x>a <script>alert(1)</script><img src=x onerror=y></p>")
    new = shown.outline(other) - shown.outline(page)
    assert new == {"script", "img", "img src", "img onerror"}


@pytest.mark.parametrize("seed", range(30))
def test_each_damage_changes_something(tmp_path: Path, seed: int) -> None:
    home = tmp_path / "engine"
    home.mkdir()
    for name in ("model.onnx", "plan.json", "qdeploy.json"):
        (home / name).write_text('{"files": {}, "labels": ["a", "b"], "sites": [1, 2, 3]}')
    before = {p.name: p.read_bytes() for p in home.iterdir()}
    damaged.damage(home, tmp_path / "other", random.Random(seed))
    assert {p.name: p.read_bytes() for p in home.iterdir()} != before


@pytest.mark.parametrize(
    ("call", "value", "told_so", "verdict"),
    [
        ("answers", ["yes", 0.25], False, WORKED),
        ("answers", ["yes", 0.75], False, WRONG),
        ("answers", ["no", 0.25], False, WRONG),
        ("answers", ["no", 0.25], True, WORKED),
        ("answers", ["yes", 0.75], True, WRONG),
        ("inspect", {"a": 2}, False, WRONG),
        ("inspect", {"a": 2}, True, WORKED),
    ],
)
def test_another_answer_in_silence(
    tmp_path: Path, call: str, value: Any, told_so: bool, verdict: str
) -> None:
    usual = ["yes", 0.25] if call == "answers" else {"a": 1}
    assert damaged.judged(call, {"value": value}, usual, tmp_path, told_so) == verdict


def test_every_hostile_file_can_be_made(tmp_path: Path) -> None:
    found = list(hostile_files(tmp_path, 0, 3 * len(KINDS)))
    assert {kind for kind, _ in found} == set(KINDS) >= set(OUTSIDE)
    assert all(path.exists() or path.is_symlink() for _, path in found)


@pytest.mark.parametrize(
    ("kind", "reply", "verdict"),
    [
        ("external ..", {"value": 1}, WRONG),
        ("dims", {"value": 1}, WORKED),
        ("dims", {"value": 1, "peak_mb": 2500}, UNEXPECTED),
        ("dims", {"value": 1, "cpu_s": 11.0}, HUNG),
        ("dims", {"died": -6}, UNEXPECTED),
        ("dims", {"classes": [ERROR], "text": "model.onnx: " + "x" * 9000}, UNEXPECTED),
    ],
)
def test_hostile_verdicts(tmp_path: Path, kind: str, reply: dict[str, Any], verdict: str) -> None:
    assert hostile.judged(kind, reply, tmp_path / "model.onnx")[0] == verdict


@pytest.mark.parametrize("number", range(0, 80, 7))
def test_what_a_plain_reader_reads_is_plain(tmp_path: Path, number: int) -> None:
    path, plain = tmp_path / "rows.jsonl", tmp_path / "plain.jsonl"
    rows._write(path, random.Random(number), number)
    if rows._plainly(path, plain):
        lines = [json.loads(line) for line in plain.read_text("ascii").splitlines()]
        assert lines and all(set(line) == {"question", "sentence"} for line in lines)


def test_what_a_full_disk_took_is_seen(tmp_path: Path) -> None:
    report = tmp_path / "old.json"
    report.write_text("{}")
    before = whole.snapshot(tmp_path)
    assert not full._lost(tmp_path, before, replaced=False)
    report.write_text('{"new": 1}')
    assert full._lost(tmp_path, before, replaced=False)
    assert not full._lost(tmp_path, before, replaced=True)
    report.write_text('{"ne')
    assert full._lost(tmp_path, before, replaced=True)
    shutil.rmtree(tmp_path)


def test_the_table_has_both_codes(tmp_path: Path) -> None:
    def report(lost: int) -> dict[str, Any]:
        counts = {"tried": 3, WORKED: 3 - lost, LOST: lost, "skipped": ["x is not installed"]}
        about = {"date": "2026-11-26", "commit": "abc", "seed": 0, "runs": "full"}
        return about | {"machine": "m", "versions": {"onnx": "1"}, "classes": {"disks": counts}}

    page = tmp_path / "page.md"
    page.write_text(f"# Kept\n\n{table.MARK}\nolder table")
    table.write_table(page, report(0), report(2))
    text = page.read_text()
    assert text.startswith("# Kept") and "older table" not in text
    assert "| full disks | before | 3 | 1 | 0 | 0 | 2 |" in text
    assert "|  | now | 3 | 3 | 0 | 0 | 0 |" in text and "x is not installed" in text


def test_bad_runs_are_counted_and_noted() -> None:
    tally = Tally()
    for verdict in (WORKED, CLEAR, LOST, HUNG):
        tally.add(verdict, "x")
    assert tally.bad == 2 and len(tally.notes) == 2
