"""Every number and every choice of every option is held against its bounds before any work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from qdeploy.calibrate.options import PlanOptions
from qdeploy.cli import cli, main
from qdeploy.cli.options import NamesOption
from qdeploy.cli.values import Number
from qdeploy.options import Spec, specs
from tests.calibrate.encoder import model_directory

PATHS = {
    "export": ["checkpoint", "model"],
    "build": ["model", "engine"],
    "sweep": ["model", "sweep", "--recipe", "recipe.yaml"],
    "predict": ["engine", "rows.csv"],
    "doctor": [],
    "demo": ["demo"],
}
SHAPE = "ROWSxTOKENS"
SHAPES = ("8", "0x8", "8x0", "-1x8", "8x-1", "nanx8", "8xinf", "8.5x8", "x", "8x8x8", "")


def options_of(*kinds: type[Any]) -> Iterator[tuple[str, click.Option]]:
    for name, command in cli.commands.items():
        for param in command.params:
            if isinstance(param, click.Option) and isinstance(param.type, kinds):
                yield name, param


def bad_numbers(number: Spec) -> list[str]:
    """Below, above, beside, and what is no number or no finite one."""
    step = 1 if number.number is int else 0.001
    found = ["nan", "inf", "-inf", "many", "", "1e999", "0x10"]
    if number.number is int:
        found.append("1.5")
    found += [str(number.least - step)] if number.least is not None else []
    found += [str(number.above)] if number.above is not None else []
    found += [str(number.most + step)] if number.most is not None else []
    return found


NUMBERS = [
    pytest.param(name, param, bad, id=f"{name} {param.opts[-1]} {bad or 'empty'}")
    for name, param in options_of(Number)
    for bad in bad_numbers(param.type.spec)  # type: ignore[attr-defined]
]


def refused(words: list[str], flag: str, home: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The text of a refusal that names the option, at once, with nothing written."""
    before = sorted(home.rglob("*"))
    began = time.perf_counter()
    assert main(words) == 2
    took = time.perf_counter() - began
    out, err = capsys.readouterr()
    assert out == "" and flag in err, err
    assert took < 1.0
    assert sorted(home.rglob("*")) == before
    return err


def test_no_number_is_without_bounds() -> None:
    plain = (click.types.IntParamType, click.types.FloatParamType)
    assert [(n, p.name) for n, p in options_of(*plain) if not isinstance(p.type, Number)] == []
    unbound = [
        (name, param.name)
        for name, param in options_of(Number)
        if isinstance(param.type, Number)
        and param.type.spec.least is None
        and param.type.spec.above is None
    ]
    assert unbound == []
    assert len(list(options_of(Number))) >= 20


@pytest.mark.parametrize(("name", "option", "bad"), NUMBERS)
def test_a_number_out_of_bounds_is_refused_at_once(
    name: str,
    option: click.Option,
    bad: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [name, *PATHS.get(name, ["model"]), f"{option.opts[-1]}={bad}"]
    text = refused(words, option.opts[-1], tmp_path, capsys)
    assert isinstance(option.type, Number) and f"Give {option.type.spec.wanted}." in text


def test_a_refusal_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "m", "e", "--groups", "9999"]) == 2
    why = specs(PlanOptions)["groups"].why
    text = capsys.readouterr().err
    assert f"'--groups': 9999. Give a whole number from 1 to 32, or 'auto'. {why}" in text


@pytest.mark.parametrize("flag", ["--opt-shape", "--min-shape", "--max-shape"])
def test_a_shape_that_is_none_is_refused_at_once(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [p.opts[-1] for p in cli.commands["build"].params if p.metavar == SHAPE]
    assert flag in known and len(known) == 3
    monkeypatch.chdir(tmp_path)
    main(["build", "model", "engine", "--opt-shape", "8"])  # imports what a build needs
    capsys.readouterr()
    for bad in SHAPES:
        assert "8x128" in refused(
            ["build", "model", "engine", f"{flag}={bad}"], flag, tmp_path, capsys
        )


@pytest.mark.parametrize("more", [[], ["--strategy", "auto"], ["--target", "auto"]])
def test_a_shape_beyond_the_model_is_refused_at_once(
    more: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model_directory(tmp_path / "model")
    words = ["build", "model", "engine", *more]
    main([*words, "--opt-shape", "8"])  # imports
    capsys.readouterr()
    text = refused([*words, "--opt-shape", "8x1000"], "--opt-shape", tmp_path, capsys)
    assert "has 1000 tokens, and the model takes at most" in text and "Give 8x" in text


CHOICES = [
    pytest.param(name, param, id=f"{name} {param.opts[-1]}")
    for name, command in cli.commands.items()
    for param in command.params
    if isinstance(param, NamesOption)
]


def test_every_list_of_words_is_one_that_is_held() -> None:
    """What help shows as [a|b] is refused by the option itself, or has numbers and paths too."""
    loose = {
        param.opts[-1]
        for command in cli.commands.values()
        for param in command.params
        if isinstance(param, click.Option)
        and "|" in (param.metavar or "")
        and not isinstance(param, NamesOption)
        and not isinstance(param.type, Number)
    }
    # a word, or anything else
    assert loose == {"--baseline", "--keep", "--metric", "--ray-address"}
    assert len(CHOICES) >= 15


@pytest.mark.parametrize(("name", "option"), CHOICES)
def test_a_wrong_word_is_refused_with_the_nearest_and_all(
    name: str,
    option: NamesOption,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    choices = option.names()
    for right in choices:
        if len(right) < 3:
            continue
        wrong = f"{right}q"
        assert main([name, *PATHS.get(name, ["model"]), option.opts[-1], wrong]) == 2
        text = capsys.readouterr().err
        assert f"'{wrong}'. Did you mean '" in text
        assert f"Choose one of: {', '.join(choices)}." in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["--strategy", "peq"], "peg"),
        (["--strategy", "PEG"], "peg"),
        (["--strategy", "aut"], "auto"),
        (["--task", "aut"], "auto"),
        (["--target", "openv"], "openvino"),
        (["--groups", "auot"], "auto"),
        (["--outlier-channels", "non"], "none"),
        (["--alpha", "atuo"], "auto"),
    ],
)
def test_the_nearest_word(
    words: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "m", "e", *words]) == 2
    assert f"Did you mean '{nearest}'?" in capsys.readouterr().err
