"""What is to be typed where something is missing works in the environment that it is typed in."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.errors import PackageError
from qdeploy.machine import remedies
from qdeploy.machine.faults import explained
from qdeploy.machine.remedies import (
    install_command,
    missing_package,
    packages_of,
    uninstall_command,
    upgrade_command,
)

ROOT = Path(qdeploy.__file__).parents[1]
PIP = f"{shlex.quote(sys.executable)} -m pip"
# An install of qdeploy from an index, which has none: a folder before the name is another thing.
FROM_INDEX = re.compile(r"pip3? install[^\n`]*?(?<![/\w.-])qdeploy(?:\[|(?![\w/.-]))")
REQUIRES = [
    "numpy>=2.0",
    'onnxruntime>=1.23; extra == "runtime"',
    'onnxruntime-gpu[cuda,cudnn]>=1.23; extra == "gpu"',
    "jinja2>=3.1 ; extra == 'report'",
    'matplotlib>=3.9; extra == "report"',
]


class Installed:
    """The metadata of a distribution."""

    def __init__(self, origin: dict[str, Any] | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


def installed(monkeypatch: pytest.MonkeyPatch, origin: dict[str, Any] | None) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda _: Installed(origin))
    monkeypatch.setattr(metadata, "requires", lambda _: REQUIRES)


def test_a_source_checkout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"url": "file:///home/me/my%20work", "dir_info": {"editable": True}}
    installed(monkeypatch, origin)
    assert install_command("report") == f"{PIP} install -e '/home/me/my work[report]'"
    assert install_command("gpu", "report", packages=("tensorrt<11",)) == (
        f"{PIP} install -e '/home/me/my work[gpu,report]' 'tensorrt<11'"
    )
    assert install_command(packages=("pyarrow",)) == f"{PIP} install pyarrow"


@pytest.mark.parametrize(
    "origin",
    [None, {"url": "file:///src", "dir_info": {}}, {"url": "https://x/q.whl", "archive_info": {}}],
)
def test_elsewhere_the_packages_are_named(
    origin: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, origin)
    assert install_command("report") == f"{PIP} install 'jinja2>=3.1' 'matplotlib>=3.9'"
    assert install_command("gpu", options="--upgrade") == (
        f"{PIP} install --upgrade 'onnxruntime-gpu[cuda,cudnn]>=1.23'"
    )
    with pytest.raises(KeyError, match="nothing"):
        install_command("nothing")


def test_without_an_installation_its_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nothing(_: str) -> Any:
        raise metadata.PackageNotFoundError("qdeploy")

    monkeypatch.setattr(metadata, "distribution", nothing)
    assert install_command("report") == f"{PIP} install -e {shlex.quote(f'{ROOT}[report]')}"
    monkeypatch.setattr(remedies, "_PROJECT", tmp_path)  # code that was sent to a node of a cluster
    assert install_command("sweep") == f"{PIP} install -e 'QDEPLOY_CHECKOUT[sweep]'"


def test_other_commands() -> None:
    assert upgrade_command("peft") == f"{PIP} install --upgrade peft"
    assert uninstall_command("onnxruntime") == f"{PIP} uninstall -y onnxruntime"


def test_extras_of_this_project_are_read_from_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """As setuptools writes them: each extra that a remedy names is there, with its packages."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    lines = [f'{package}; extra == "{extra}"' for extra in extras for package in extras[extra]]
    monkeypatch.setattr(metadata, "requires", lambda _: [*project["dependencies"], *lines])
    assert {extra: packages_of(extra) for extra in extras} == extras
    named = re.compile(r"(?<![a-z])install_command\(\s*((?:[\"'][a-z]+[\"'],?\s*)+)")
    used = {
        extra
        for file in (ROOT / "qdeploy").rglob("*.py")
        for found in named.findall(file.read_text("utf-8"))
        for extra in re.findall(r"[a-z]+", found)
    }
    known = {extra for _, extra in remedies._OF_EXTRAS.values()}
    assert {
        "cpu",
        "gpu",
        "openvino",
        "tensorrt",
        "report",
        "sweep",
        "hub",
        "export",
    } <= used | known
    assert used | known <= set(extras)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("torch", "The package torch is not installed; export needs it. Type: "),
        ("onnxruntime.capi", "The package onnxruntime is not installed; calibration, sim"),
        ("onnx_ir", "The package onnx_ir is not installed; "),
    ],
)
def test_a_missing_package_is_an_error_with_its_remedy(module: str, said: str) -> None:
    with pytest.raises(PackageError, match="Type: .* -m pip install") as caught, explained():
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    assert str(caught.value).startswith(said)


def test_a_package_that_nothing_brings_stays_an_error_of_its_own() -> None:
    assert missing_package(ModuleNotFoundError("No module named 'x'", name="x")) is None
    assert missing_package(ModuleNotFoundError("no name")) is None
    assert missing_package(ImportError("cannot import name", name="torch")) is None


def texts() -> list[Path]:
    """Whatever a user may read: code, docs, recipes, scripts."""
    kinds = ("*.py", "*.md", "*.yaml", "*.html", "*.toml", "*.txt", "Makefile", "run")
    folders = ("qdeploy", "docs", "benchmarks", "recipes", ".ci")
    found = [file for folder in folders for kind in kinds for file in (ROOT / folder).rglob(kind)]
    return [*found, *(file for kind in kinds for file in ROOT.glob(kind))]


def test_no_text_installs_from_an_index() -> None:
    assert len(texts()) > 200
    found = []
    for file in texts():
        text = re.sub(r"[\"']\s*\n\s*f?[\"']", "", file.read_text("utf-8"))  # a text in two lines
        found += [f"{file.relative_to(ROOT)}: {hit}" for hit in FROM_INDEX.findall(text)]
    assert not found


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("pip install qdeploy", True),
        ("pip install 'qdeploy[cpu]'", True),
        ("pip install --upgrade qdeploy, or", True),
        ("pip install -e '/home/me/qdeploy[cpu]'", False),
        ("pip install onnxruntime` and `qdeploy doctor`", False),
        ("pip install qdeploy-extra", False),
    ],
)
def test_the_scan_itself(text: str, refused: bool) -> None:
    assert bool(FROM_INDEX.search(text)) == refused
