"""The screens of `analyze` and of `--strategy auto` in a terminal of 80 columns."""

from __future__ import annotations

import io
from typing import Any

import click
import pytest

from qdeploy.cli import analysis_table, choices
from qdeploy.schemas.autotune import StrategySearch, TriedPlan
from tests.report.reports import analysis

WIDTH = 80


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(call: Any, monkeypatch: pytest.MonkeyPatch, *, verbose: bool = False) -> list[str]:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    context = click.Context(click.Command("analyze"))
    with context:
        if verbose:
            context.meta["qdeploy.verbose"] = True
        call()
    return click.unstyle(terminal.getvalue()).splitlines()


def test_the_table_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(lambda: analysis_table.analysis(analysis()), monkeypatch)
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    first = next(line for line in lines if line.lstrip().startswith("L0 ffn.sum"))
    assert first.split()[2:9] == ["3.5", "4", "11.0", "%", "+1.2", "1", "1.2e+03"]
    assert lines[-1] == "Next: qdeploy build model model-peg --strategy peg --scope all"
    assert "layer.0.output" not in text  # the long names are for -v
    assert "32 answers are few: a single one is 3.1 %" in text.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("L11 ffn.intermediate.input", "kurtosis"),
        ("L11 a.place.with.a.long.name.input", "outliers, kurtosis"),
        ("L11 " + "x" * 40, "gain dB, outliers, kurtosis"),
        ("L11 " + "x" * 50, "expected, gain dB, outliers, kurtosis"),
    ],
)
def test_columns_are_left_out_before_a_name_is_broken(
    name: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = analysis()
    report["sites"][0] |= {"short": name}
    lines = printed(lambda: analysis_table.analysis(report), monkeypatch)
    assert max(map(len, lines)) <= WIDTH
    assert [line.split("  ")[0].strip() for line in lines if line.startswith(" L11")] == [name]
    assert f"No room here: {left}. --json and --html have them." in " ".join(lines)


def test_what_was_not_measured_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(lambda: analysis_table.analysis(analysis()), monkeypatch)
    (row,) = [line for line in lines if "head.input" in line]
    assert "not run" in row and "0.0 %" not in row
    assert "Not measured within 120 s: costs of 1 sites, gains of 2 sites. --seconds takes" in (
        "\n".join(lines)
    )


def test_long_names_with_v(monkeypatch: pytest.MonkeyPatch) -> None:
    call = lambda: analysis_table.analysis(analysis())  # noqa: E731
    text = "\n".join(printed(call, monkeypatch, verbose=True))
    assert "L0 ffn.sum: layer.0.output.LayerNorm.input (FFN residual sum)" in text


def test_without_answers_or_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    report = analysis()
    for plan in report["plans"]:
        plan |= {"flipped": None, "flip_percent": None}
    text = "\n".join(
        printed(lambda: analysis_table.analysis(report | {"answers": None}), monkeypatch)
    )
    assert "answers" not in text and "peg, 3 sites in 8 bits: 31.0 dB\n" in text
    report |= {"cost_rows": 0, "plans": [], "w8a8_db": None}
    report["build"] |= {"plan": None, "reason": "No cost was measured."}
    lines = printed(lambda: analysis_table.analysis(report), monkeypatch)
    assert "no cost was measured" in " ".join(lines) and lines[-2] == "No cost was measured."


def searched() -> StrategySearch:
    """What `--strategy auto` writes into the manifest."""

    def tried(db: float, ratio: float, **options: object) -> TriedPlan:
        return {
            "options": options, "p50_ms": 19.8 * ratio, "relative": [ratio, ratio - 0.01, ratio],
            "expected_drop": 0.05, "measured_drop": 0.2, "standard_error": 0.1, "sqnr_db": db,
            "holds": True,
        }  # fmt: skip

    found = [
        tried(21.0, 1.0, strategy="w8a8"),
        tried(29.0, 1.02, strategy="peg", noise_target=33.0),
        tried(25.0, 1.1, strategy="mixed", mixed="auto"),
        tried(27.0, 1.2, strategy="peg", prescale="none"),
        tried(30.0, 1.3, strategy="peg", noise_target=30.0, float_sites=["a.very.long.name"] * 8),
    ]
    return {
        "max_drop": 0.3, "rows": 512, "max_length": 128, "labelled": True, "shape": [8, 128],
        "fp32": {"p50_ms": 61.0, "relative": [3.1, 3.05, 3.15]}, "tried": found,
        "chosen": found[1]["options"],
    }  # fmt: skip


def test_what_auto_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(lambda: choices.search(searched()), monkeypatch)
    assert max(map(len, lines)) <= WIDTH
    rows = [line.strip() for line in lines if "–" in line]
    assert [row.split("  ")[0] for row in rows] == [
        "w8a8", "* peg, 33 dB", "mixed, auto", "peg, prescale none", "peg, 30 dB, 8 in float",
        "fp32",
    ]  # fmt: skip
    assert rows[1].split()[-3:] == ["1.02", "(1.01–1.02)", "yes"]
    assert rows[-1].split()[1:] == ["61.00", "3.10", "(3.05–3.15)"]
