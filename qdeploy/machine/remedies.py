"""The command that installs what is missing, as it works in this environment.

No package index has qdeploy. So where it is installed from a source checkout (`pip install -e`) the
command names that folder; elsewhere it names the packages themselves, as the installed
distribution's metadata lists them. Both use the pip of the Python that runs.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from qdeploy.errors import PackageError

DISTRIBUTION = "qdeploy"
_PROJECT = Path(__file__).parents[2]
# `onnxruntime>=1.23; extra == "cpu"`, as pip writes it.
_REQUIREMENT = re.compile(r"(?P<package>[^;]+?)\s*;\s*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")
# Modules that are not everywhere: what needs them, and the extra that brings them.
_OF_EXTRAS = {
    "onnxruntime": ("calibration, simulation and the targets ort-*", "cpu"),
    "openvino": ("the target openvino", "openvino"),
    "model_signing": ("signing an engine, and checking its signature,", "sign"),
    **dict.fromkeys(
        ("scipy", "sklearn"), ("metrics of values, rankings and embeddings", "metrics")
    ),
    **dict.fromkeys(
        ("torch", "transformers", "onnxscript", "peft", "safetensors"), ("export",) * 2
    ),
}
# Of `export`, but what they are for needs no torch: what needs them, and the package.
_ALONE = {
    "onnx_ir": ("building, analyzing and evaluating engines", "onnx-ir"),
    "yaml": ("reading a recipe", "pyyaml"),
}


def install_command(*extras: str, packages: tuple[str, ...] = (), options: str = "") -> str:
    """A command line that installs the packages of extras.

    Args:
        extras: names of `[project.optional-dependencies]`; none for `packages` alone.
        packages: further requirements ("tensorrt<11").
        options: of `pip install` ("--upgrade").

    >>> install_command(packages=("tensorrt<11",)).partition(" -m ")[2]
    "pip install 'tensorrt<11'"
    """
    checkout = _checkout() if extras else None
    if checkout is not None:
        wanted = ["-e", f"{checkout}[{','.join(extras)}]"]
    else:
        wanted = list(dict.fromkeys(p for extra in extras for p in packages_of(extra)))
    words = [sys.executable, "-m", "pip", "install", *options.split(), *wanted, *packages]
    return shlex.join(words)


def upgrade_command(package: str) -> str:
    """A command line that upgrades a package."""
    return install_command(packages=(package,), options="--upgrade")


def uninstall_command(package: str) -> str:
    """A command line that removes a package."""
    return shlex.join([sys.executable, "-m", "pip", "uninstall", "-y", package])


def packages_of(extra: str) -> list[str]:
    """The requirements of an extra, from the metadata of the installed distribution.

    Raises:
        KeyError: it has no such extra, which is a fault of the caller.
    """
    found = [_REQUIREMENT.match(line) for line in metadata.requires(DISTRIBUTION) or ()]
    named = [match["package"] for match in found if match and match["extra"] == extra]
    if not named:
        raise KeyError(extra)
    return named


def require(*packages: str) -> None:
    """Refuse, before any work, to start what needs packages that are not installed.

    Raises:
        PackageError: with the command that installs the first one that is missing.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            error = missing_package(ModuleNotFoundError(f"No module named '{name}'", name=name))
            raise error or PackageError(f"The package {name} is not installed.")


def missing_package(error: BaseException) -> PackageError | None:
    """An import that failed for want of a package that an extra brings; None for other errors."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    if package in _OF_EXTRAS:
        use, extra = _OF_EXTRAS[package]
        command = install_command(extra)
    elif package in _ALONE:
        use, name = _ALONE[package]
        command = install_command(packages=(name,))
    else:
        return None
    return PackageError(f"The package {package} is not installed; {use} needs it. Type: {command}")


def _checkout() -> Path | None:
    """The folder that qdeploy is installed from and runs in; None where pip copied it."""
    try:
        found = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # it runs from its folder, or was sent to a node
        return _PROJECT if (_PROJECT / "pyproject.toml").is_file() else Path("QDEPLOY_CHECKOUT")
    origin = json.loads(found) if found else {}
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(origin["url"]).path))
