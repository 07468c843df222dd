"""The documentation keeps up: the CLI page is the generated one, and names stand in it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import click
import pytest

import qdeploy
from qdeploy.calibrate.strategies import STRATEGIES
from qdeploy.cli import cli
from qdeploy.deploy.targets.registry import TARGETS

ROOT = Path(qdeploy.__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
OPTIONS = [
    (command, option)
    for command in cli.commands.values()
    for option in command.params
    if isinstance(option, click.Option)
]


def test_cli_page_is_the_generated_one() -> None:
    page = runpy.run_path(str(DOCS / "generate_cli.py"))["page"]()
    assert (DOCS / "cli.md").read_text("utf-8") == page, "Type: make docs"


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_help_and_stands_in_the_docs(name: str) -> None:
    assert cli.commands[name].help
    assert f"## qdeploy {name}\n" in (DOCS / "cli.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("command", "option"), OPTIONS, ids=[f"{c.name} {o.opts[-1]}" for c, o in OPTIONS]
)
def test_every_option_has_help(command: click.Command, option: click.Option) -> None:
    assert option.help
    assert option.help.endswith(".")


def test_every_strategy_stands_in_the_docs() -> None:
    text = (DOCS / "strategies.md").read_text("utf-8")
    assert [name for name in STRATEGIES if f"| `{name}` |" not in text] == []


def test_every_target_stands_in_the_docs() -> None:
    text = "".join((DOCS / page).read_text("utf-8") for page in ("targets.md", "gpu.md"))
    assert [name for name in TARGETS if f"## `{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_commands_in_the_readme_parse() -> None:
    """Every `qdeploy ...` line of the README is a command that exists, with options that exist."""
    lines = re.findall(r"^qdeploy (.+)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert lines
    for line in lines:
        name, *words = line.split()
        known = {flag for param in cli.commands[name].params for flag in param.opts}
        assert {word for word in words if word.startswith("--")} <= known


def project_table() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def test_version_and_licence_agree() -> None:
    project = project_table()
    assert project["version"] == qdeploy.__version__
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")[:200]


def test_constraints_name_every_dependency() -> None:
    project = project_table()
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cpu"], *extras["export"], *extras["dev"]]
    names = {re.split(r"[<>=\[]", entry)[0].lower() for entry in wanted}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names <= pinned
    assert "torch==2.13.0" in lines
