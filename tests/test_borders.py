"""Who may know whom: read from the imports of every file, and from what an import loads."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qdeploy

ROOT = Path(qdeploy.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TRAINING_SCRIPT = Path("models/train_adapter.py")  # run by hand, imported by nothing
HEAVY = (
    "rich.console",
    "torch",
    "transformers",
    "onnxruntime",
    "matplotlib",
    "peft",
    "datasets",
    "onnx",
    "jinja2",
    "ray",
    "yaml",
    "openvino",
    "tensorrt",
    "cuda",
)

# Room → modules of our own that it may not import, with or without what lies below them.
_BUILDERS = ("search", "auto", "measured", "contest", "baseline")  # of several engines
_ABOVE = ("analyze", "report", "sweep", *_BUILDERS, "api", "demo", "cli")
FORBIDDEN = {
    "calibrate": ("deploy", "evaluate", "exporter", "models", *_ABOVE),
    "data": ("calibrate", "deploy", "evaluate", "exporter", "models", *_ABOVE),
    "deploy": ("data", "evaluate", "exporter", "models", *_ABOVE),
    "evaluate": ("calibrate", "exporter", "models", *_ABOVE),
    "exporter": ("calibrate", "deploy", "evaluate", *_ABOVE),
    "models": ("calibrate", "data", "deploy", "evaluate", "exporter", *_ABOVE),
    "analyze": ("deploy", "evaluate", "exporter", "models", *_ABOVE),
    "report": ("calibrate", "data", "deploy", "evaluate", "exporter", "models", *_ABOVE),
    "sweep": ("analyze", "report", *_BUILDERS, "exporter", "models", "demo", "cli"),
    "cli": (
        *("calibrate", "data", "deploy", "evaluate", "exporter", "models"),
        *(
            "analyze",
            "report",
            "sweep",
            *_BUILDERS,
            "artifact",
            "publish",
            "lease",
            "scratch",
            "demo",
        ),
    ),
}
# evaluate/ knows engines by their interface and by their INT8 check, and no target.
ENGINE_INTERFACE = {
    "qdeploy.deploy.engine",
    "qdeploy.deploy.certificate",
    "qdeploy.deploy.int8_gate",
    "qdeploy.deploy.one_process",
}


@functools.cache
def imports(file: Path) -> frozenset[str]:
    """Modules and names that a file imports, at the top or inside functions, but for typing."""
    return frozenset(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text("utf-8"))
    skipped = {inner for node in ast.walk(tree) if _for_typing(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _for_typing(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def importers(package: str) -> set[Path]:
    """Files of ours that import `package` or something in it."""
    return {
        file.relative_to(ROOT)
        for file in FILES
        if any(name == package or name.startswith(f"{package}.") for name in imports(file))
    }


@pytest.mark.parametrize("package", ["torch", "transformers", "peft", "safetensors.torch"])
def test_training_packages_are_known_to_the_exporter_alone(package: str) -> None:
    strangers = {
        file
        for file in importers(package)
        if file.parts[0] != "exporter" and file != TRAINING_SCRIPT
    }
    assert not strangers


def test_temporary_folders_are_those_that_the_next_run_finds() -> None:
    assert importers("tempfile") <= {Path("scratch.py"), Path("faults.py"), Path("sweep/parcel.py")}


def test_the_training_script_is_imported_by_nothing() -> None:
    assert not importers("qdeploy.models.train_adapter")


@pytest.mark.parametrize("package", ["tensorrt", "cuda"])
def test_the_libraries_of_a_gpu_are_known_to_one_file_each(package: str) -> None:
    assert len(importers(package)) == 1


@pytest.mark.parametrize("package", ["onnx", "google.protobuf", "onnxruntime.quantization"])
def test_graphs_are_read_and_written_with_onnx_ir_alone(package: str) -> None:
    assert not importers(package)


@pytest.mark.parametrize(("room", "strangers"), FORBIDDEN.items())
def test_rooms_know_only_what_they_may(room: str, strangers: tuple[str, ...]) -> None:
    found = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / room).rglob("*.py"))
        for name in sorted(imports(file))
        for stranger in strangers
        if stranger != room and f"{name}.".startswith(f"qdeploy.{stranger}.")
    ]
    assert not found


def test_evaluate_knows_engines_by_their_interface() -> None:
    known = {
        ".".join(name.split(".")[:3])
        for file in (ROOT / "evaluate").rglob("*.py")
        for name in imports(file)
        if name.startswith("qdeploy.deploy")
    }
    assert known <= ENGINE_INTERFACE


def test_nobody_knows_the_command_line() -> None:
    outside = {file for file in importers("qdeploy.cli") if file.parts[0] != "cli"}
    assert outside <= {Path("__main__.py")}


def test_the_command_line_knows_nobody_it_need_not() -> None:
    """Commands go through `qdeploy.api`; names of other rooms are looked up by the help only."""
    ours = {
        name for file in (ROOT / "cli").glob("*.py") for name in imports(file) if "qdeploy" in name
    }
    outside = {name for name in ours if not name.startswith("qdeploy.cli")}
    assert outside <= {
        "qdeploy",
        "qdeploy.api",
        "qdeploy.commands.command",
        "qdeploy.commands.free_place",
        "qdeploy.commands.quoted",
        "qdeploy.errors.choose",
        "qdeploy.errors.nearest",
        "qdeploy.errors.PlanError",
        "qdeploy.errors.GateError",
        "qdeploy.errors.OutputError",
        "qdeploy.errors.QDeployError",
        "qdeploy.errors.QDeployWarning",
        "qdeploy.names.short_name",
        "qdeploy.text.json_text",
        "qdeploy.text.beside",
        "qdeploy.text.visible",
        "qdeploy.faults.machine_fault",
        "qdeploy.kept",
        "qdeploy.kept.note",
        "qdeploy.wording.changed",
        "qdeploy.wording.speed",
        "qdeploy.whole.check_file",
        "qdeploy.whole.check_reports",
        "qdeploy.whole.write_file",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "import qdeploy",
        "import qdeploy.api, qdeploy.errors",
        "import qdeploy; qdeploy.evaluate; qdeploy.calibrate; qdeploy.export; qdeploy.load",
        "import qdeploy.cli",
    ],
)
def test_imports_stay_light(statement: str) -> None:
    code = f"import sys; {statement}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_border_that_is_crossed_is_seen(tmp_path: Path) -> None:
    """The scan itself sees imports inside functions, and leaves those for typing alone."""
    file = tmp_path / "file.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import transformers\n"
        "def f():\n    from torch import nn\n"
    )
    assert imports(file) == {"typing.TYPE_CHECKING", "torch.nn"}
