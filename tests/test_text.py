"""Names of anybody are text: on a terminal, in HTML, in Markdown and in pictures."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qdeploy
from qdeploy.cli import main
from qdeploy.files.artifact import read_json, write_json
from qdeploy.text import markdown, mathless, visible
from tests.calibrate.encoder import model_directory
from tests.tiny import tiny_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
NASTY = (
    *("run[/x]", "[red]x[/red]", ":smile:", "$x_1$", "\x1b[31mred", "bell\x07", "a\rb", "a\tb"),
    *("<script>x</script>", "](javascript:x)", "a|b", "`c`", "a&b", "\u202egnirts", "\u2066x"),
    *("é漢🙂", "x" * 255, "line\nbreak"),
)
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@given(st.text())
def test_nothing_harmful_is_left(text: str) -> None:
    shown = visible(text)
    assert not CONTROL.search(shown)
    shown.encode()  # no half of a surrogate pair
    kept = [c for c in text if unicodedata.category(c) in ("Lu", "Ll", "Nd", "So", "Zs")]
    assert [c for c in shown if c in kept][: len(kept)] or not kept
    assert "\n" not in visible(text, lines=False)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"])))
def test_markdown_has_no_marks(text: str) -> None:
    """Every mark that Markdown knows has a backslash before it."""
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]()<>#|~]", markdown(text))


def test_a_formula_is_none() -> None:
    from matplotlib.figure import Figure

    text = Figure().text(0, 0, mathless("$\\frac{1}{2}$ costs $5"))
    assert text.get_text() == "\\$\\frac{1}{2}\\$ costs \\$5"
    text.figure.canvas.draw()  # a bad formula would raise here


def test_json_holds_any_path(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"path": "a\udcffb\x1b"})
    assert read_json(tmp_path / "x.json") == {"path": "a\\xffb\x1b"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine whose classes have names that are markup."""
    home = tmp_path_factory.mktemp("text")
    names = ["[red]<b>$x$</b>", "\x1b[31m](x)|`y`"]
    classes: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {n: i for i, n in enumerate(names)},
    }
    checkpoint = tiny_checkpoint(home / "checkpoint", **classes)
    qdeploy.export(checkpoint, home / "model")
    qdeploy.build(home / "model", home / "engine", strategy="fp32")
    rows = "".join(f"who {i}\tking\t{names[i % 2]}\n" for i in range(8))
    (home / "rows.tsv").write_text(f"question\tsentence\tlabel\n{rows}")
    return home / "engine"


class Elements(html.parser.HTMLParser):
    """The elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)


@pytest.mark.parametrize("name", NASTY)
def test_a_directory_of_any_name(
    engine: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(engine, tmp_path / name))
    page, card, report = (tmp_path / f"out.{end}" for end in ("html", "md", "json"))
    words = ["eval", str(path), "--no-latency", "--data", str(engine.parent / "rows.tsv")]
    words += ["--html", str(page), "--card", str(card), "--json", str(report)]
    assert main(words) == 0
    assert main(["inspect", str(path)]) == 0
    assert main(["build", str(engine.parent / "model"), str(path), "--strategy", "fp32"]) == 2
    said = capsys.readouterr()
    assert not CONTROL.search(said.out + said.err)
    flat = re.sub(r"\s", "", said.out)
    assert re.sub(r"\s", "", visible(name, lines=False))[:20] in flat.replace("\\n", "\n") or (
        "\n" in name
    )
    elements = Elements()
    elements.feed(page.read_text("utf-8"))
    assert "script" not in elements.found and "a" not in elements.found
    assert json.loads(report.read_text("utf-8"))["metrics"]["n"] == 8
    assert "](javascript:x)" not in card.read_text("utf-8")


def test_a_name_that_is_no_utf8_is_told(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runtimes take paths as UTF-8."""
    path = shutil.copytree(engine, tmp_path / "a\udcff")
    model = str(engine.parent / "model")
    for words in (["eval", str(path)], ["inspect", str(path)], ["build", model, f"{path}b"]):
        assert main(words) == 2
        assert "a\\xff" in capsys.readouterr().err


def test_an_error_shows_a_name_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "no\x1b[2Jwhere"]) == 2
    assert main(["--no-\x1b[2Joption"]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said and "no\\x1b[2Jwhere does not exist" in said


def test_a_name_stays_on_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the terminal a line break of a name is seen, and lines of our own stay lines."""
    model = model_directory(tmp_path / "m")
    out = tmp_path / "line\nError: x"
    assert main(["build", str(model), str(out), "--strategy", "fp32"]) == 0
    assert main(["build", str(model), str(out), "--strategy", "fp32"]) == 2
    said = capsys.readouterr()
    assert "line\nError" not in said.out + said.err and "line\\nError: x already" in said.err
    assert "line\\nError: x: fp32" in said.out and said.out.count("\n") > 2
