"""Commands that are pasted reach qdeploy as they were meant, whatever a file is called."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qdeploy.commands import command, free_place, quoted
from qdeploy.text import visible

ODD = (
    *(
        "model",
        "my model",
        "-x",
        "--force",
        "it's",
        'a "b"',
        "$HOME",
        "`ls`",
        "a;b",
        "#a",
        "~",
        "*",
    ),
    *(
        "a\nb",
        "a\tb",
        "\x1b[31mred",
        "5\x1b5",
        "\u202eturned",
        "naïve",
        "モデル",
        "back\\slash",
        "!x",
    ),
    *("a'\x07\\b", "\x7f", "{a,b}", "a=b"),
)


def pasted(line: str, home: Path) -> list[str]:
    """The words that a program called `qdeploy` gets of a line."""
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    script = f'qdeploy() {{ "{sys.executable}" -c "$PROGRAM" "$@"; }}\n{line}\n'
    done = subprocess.run(
        [str(shutil.which("bash")), "-c", script],
        cwd=home,
        env={"PROGRAM": program, "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    words: list[str] = json.loads(done.stdout)
    return words


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_every_name_comes_through_a_shell(tmp_path: Path) -> None:
    lines, expected = [], []
    for name in ODD:
        lines.append(command("build", Path(name), "FILE", options={"data": name, "force": True}))
        path = f"./{name}" if name.startswith("-") else name
        data = [f"--data={name}"] if name.startswith("-") else ["--data", name]
        expected.append(["build", path, "FILE", *data, "--force"])
    for line, words in zip(lines, expected, strict=True):
        assert pasted(line, tmp_path) == words, line


@pytest.mark.parametrize("name", ODD)
def test_a_command_is_one_line_that_a_terminal_shows_as_it_is(name: str) -> None:
    line = command("eval", Path(name))
    assert visible(line, lines=False) == line


def test_a_plain_name_stays_plain() -> None:
    assert quoted("model-peg") == "model-peg"
    assert command("eval", Path("out/e"), options={"task": None, "refit": False}) == (
        "qdeploy eval out/e"
    )


def test_a_place_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert free_place(model, "peg") == tmp_path / "model-peg"
    (tmp_path / "model-peg").mkdir()
    (tmp_path / "model-peg-2").write_text("a file")
    (tmp_path / "model-peg-3").symlink_to("nowhere")
    assert free_place(model, "peg") == tmp_path / "model-peg-4"
