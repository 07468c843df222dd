"""Help in sections: every heading is the option's own, and the first screen fits a terminal."""

from __future__ import annotations

import click
import pytest

from qdeploy.calibrate.options import BUILDER, OTHERS, PEG
from qdeploy.cli import cli, main, sections
from qdeploy.cli.build import build
from qdeploy.deploy.options import TENSORRT, CompileOptions
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.options import GENERAL

WIDTH = 80


def help_of(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert main([*([name] if name else []), "--help"]) == 0
    return capsys.readouterr().out


def test_the_first_screen_fits_80_by_24(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = help_of("", monkeypatch, capsys).splitlines()
    assert len(lines) <= 23  # the prompt takes one
    assert max(map(len, lines)) < WIDTH
    for name in cli.commands:
        said = next(line for line in lines if line.startswith(f"  {name} "))
        assert said.endswith(".") and not said.endswith("..."), said


@pytest.mark.parametrize("name", cli.commands)
def test_help_is_no_wider_than_the_terminal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert max(map(len, help_of(name, monkeypatch, capsys).splitlines())) < WIDTH


@pytest.mark.parametrize("name", cli.commands)
def test_every_option_stands_once_under_its_own_heading(name: str) -> None:
    command = cli.commands[name]
    assert isinstance(command, sections.Command)
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    found = command.sections(context)
    assert list(found)[-1] == GENERAL
    for param in command.get_params(context):
        if isinstance(param, click.Option):
            # click's own --help alone has none
            assert isinstance(param, sections.Option) or param.opts[-1] == "--help"
            heading = getattr(param, "group", GENERAL)
            places = [
                place
                for place, rows in found.items()
                for term, _ in rows
                if param.opts[-1] in term.replace(",", "").split()
            ]
            assert places == [heading]


def test_an_option_without_a_heading_is_general_and_help_is_printed_by_heading() -> None:
    @sections.command()
    @sections.option("--one", group="First", is_flag=True, help="One.")
    @sections.option("--two", is_flag=True, help="Two.")
    @sections.option("--three", group="First", is_flag=True, help="Three.")
    def some(**_: object) -> None:
        """Some."""

    text = some.get_help(click.Context(some, info_name="some"))
    assert text.split("\n\n")[2:] == [
        "First:\n  --one    One.\n  --three  Three.",
        "General:\n  --two    Two.\n  --help   Show this message and exit.",
    ]


def test_headings_of_targets_say_what_the_targets_take() -> None:
    """`build` names the targets in headings; what each takes is known to the targets."""
    said = {param.name: param.group for param in build.params if isinstance(param, sections.Option)}
    for field in CompileOptions.__dataclass_fields__:
        takers = {name for name, target in TARGETS.items() if field in target.takes}
        heading = said[field]
        assert takers == {name for name in TARGETS if name in words(heading)}, field
    adds = {name for name, target in TARGETS.items() if target.adds_int8}
    assert adds == {name for name in TARGETS if name in words(said["int8_residuals"])}


def words(heading: str) -> list[str]:
    return heading.replace(",", "").split()


def test_headings_of_strategies_are_of_options_that_only_they_take() -> None:
    said = {param.name: param.group for param in build.params if isinstance(param, sections.Option)}
    peg = {name for name, heading in said.items() if heading == PEG}
    groups = {"groups", "grouping", "outlier_channels"}
    assert peg == groups | {"prescale", "noise_target", "shift", "weight_rounding", "sensitivity"}
    for param in build.params:
        if isinstance(param, sections.Option) and param.group == OTHERS:
            assert param.help is not None
            assert param.help.split(":")[0] in ("percentile", "mixed", "smoothquant", "auto")
    assert {BUILDER, TENSORRT} <= set(said.values())


def test_many_names_stand_in_the_text_and_few_where_the_value_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of("build", monkeypatch, capsys)
    assert "--strategy NAME" in text and "fp32, fp16, dynamic" in text
    assert "--scope [gemm|all]" in text
