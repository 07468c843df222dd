"""Who may know whom: read from the imports of every file, and from what an import loads."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
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

# The floors of the house: a room imports from lower floors alone, and none beside it.
FLOORS = (
    ("errors", "types", "text", "names", "figures", "_package"),
    ("schemas", "options"),
    ("common_options",),
    (
        *("machine", "onnx_file", "head", "commands", "sqnr", "intervals", "sentence_layout"),
        *("class_names", "position_counts"),
    ),
    ("files",),
    ("data", "graph", "models"),
    ("exporter", "calibrate"),
    ("deploy", "analyze"),
    ("evaluate", "report", "bundles", "verification"),
    ("autotune", "demo", "against"),
    ("sweep",),
    ("api",),
    ("_callable",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
# Floors below that a room has no business with either.
FORBIDDEN = {
    "calibrate": ("models",),
    "deploy": ("data", "models"),
    "evaluate": ("calibrate", "models", "graph"),
    "exporter": ("graph",),
    "analyze": ("models",),
    "verification": ("models", "graph", "exporter"),
    "report": ("calibrate", "data", "graph", "models", "onnx_file"),
    "sweep": ("models",),
    "cli": (
        *("calibrate", "data", "deploy", "evaluate", "exporter", "models", "graph", "onnx_file"),
        *("analyze", "report", "sweep", "autotune", "demo", "against"),
    ),
}
# evaluate/ knows engines by their interface and by their INT8 check, and no target; answers to
# questions are found by what engines bring along.
ENGINE_INTERFACE = {
    "qdeploy.deploy.engine",
    "qdeploy.deploy.open",
    "qdeploy.deploy.certificate",
    "qdeploy.deploy.int8_gate",
    "qdeploy.deploy.int8_peak",
    "qdeploy.deploy.one_process",
    "qdeploy.deploy.predict_spans",
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
    assert importers("tempfile") <= {
        Path("files/scratch.py"),
        Path("machine/disk.py"),
        Path("sweep/parcel.py"),
    }


def test_the_training_script_is_imported_by_nothing() -> None:
    assert not importers("qdeploy.models.train_adapter")


def test_the_libraries_of_a_gpu_are_known_to_one_file_each() -> None:
    assert len(importers("cuda")) == 1
    # both packages of TensorRT are imported by name, so that one code serves them
    assert not importers("tensorrt") and not importers("tensorrt_rtx")
    named = [file for file in FILES if "import_module(self.module)" in file.read_text("utf-8")]
    assert [file.relative_to(ROOT) for file in named] == [
        Path("deploy/targets/tensorrt/api.py"),
    ]


@pytest.mark.parametrize("package", ["onnx", "google.protobuf", "onnxruntime.quantization"])
def test_graphs_are_read_and_written_with_onnx_ir_alone(package: str) -> None:
    assert not importers(package)


def room_of(file: Path) -> str:
    """The first folder, or the module itself."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def rooms_of(file: Path) -> set[str]:
    """The rooms that a file imports from."""
    known = {room for floor in FLOORS for room in floor}
    found = set()
    for name in imports(file):
        package, _, rest = name.partition(".")
        if package == "qdeploy":
            room = rest.partition(".")[0]
            found.add(room if room in known else "__init__")
    return found - {room_of(file)}


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(file) for file in FILES}
    assert rooms == {room for floor in FLOORS for room in floor}
    assert {*FORBIDDEN, *(name for strangers in FORBIDDEN.values() for name in strangers)} <= rooms


def test_no_import_runs_upwards() -> None:
    height = {room: at for at, floor in enumerate(FLOORS) for room in floor}
    upwards = [
        f"{file.relative_to(ROOT)} imports from {other}"
        for file in FILES
        for other in sorted(rooms_of(file))
        if height[other] >= height[room_of(file)]
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    known = {_module(file): file for file in FILES}
    edges = {name: _modules(file, known) - {name} for name, file in known.items()}
    done: set[str] = set()
    while ready := {name for name in edges if name not in done and edges[name] <= done}:
        done |= ready
    assert sorted(set(edges) - done) == []


def _module(file: Path) -> str:
    parts = ("qdeploy", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules(file: Path, known: Mapping[str, Path]) -> set[str]:
    found = set()
    for name in imports(file):
        while name and name not in known:
            name = name.rpartition(".")[0]
        found |= {name} - {""}
    return found


def test_no_target_knows_another() -> None:
    targets = {path.name for path in (ROOT / "deploy" / "targets").iterdir() if path.is_dir()}
    allowed = {
        *(("ort_tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt")),
        *(("ort_tensorrt_rtx", name) for name in ("ort_tensorrt", "tensorrt", "tensorrt_rtx")),
    }
    found = {
        (target, name.split(".")[3])
        for target in targets
        for file in (ROOT / "deploy" / "targets" / target).glob("*.py")
        for name in imports(file)
        if name.startswith("qdeploy.deploy.targets.") and name.split(".")[3] in targets - {target}
    }
    assert found - allowed == set()


def test_every_module_of_a_border_exists() -> None:
    for module in ENGINE_INTERFACE:
        assert ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py").is_file(), module


@pytest.mark.parametrize(("room", "strangers"), FORBIDDEN.items())
def test_rooms_know_only_what_they_may(room: str, strangers: tuple[str, ...]) -> None:
    found = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / room).rglob("*.py"))
        for name in sorted(imports(file))
        if room != "cli" or not any(p.endswith(("options", "figures")) for p in name.split("."))
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


def test_reports_know_targets_and_nothing_else_of_deploy() -> None:
    known = {
        name
        for file in (ROOT / "report").rglob("*.py")
        for name in imports(file)
        if name.startswith("qdeploy.deploy")
    }
    assert known <= {"qdeploy.deploy.targets.registry.TARGETS"}


def test_nobody_knows_the_command_line() -> None:
    outside = {file for file in importers("qdeploy.cli") if file.parts[0] != "cli"}
    assert outside <= {Path("__main__.py")}


def test_the_command_line_knows_nobody_it_need_not() -> None:
    """Commands go through `qdeploy.api`; names of other rooms are looked up by the help only."""
    ours = {
        name for file in (ROOT / "cli").glob("*.py") for name in imports(file) if "qdeploy" in name
    }
    outside = {name for name in ours if not name.startswith("qdeploy.cli")}
    # options are made of the classes beside what they configure, and reports have types
    outside = {name for name in outside if "options" not in name.split(".")}
    outside = {name for name in outside if not name.startswith("qdeploy.schemas.")}
    # and what it shows is written where pages and cards have it from
    shown = {n for n in outside if any(p.endswith("figures") for p in n.split(".")[1:3])}
    outside -= shown
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
        "qdeploy.types.PathLike",
        "qdeploy.common_options",
        "qdeploy.names.eight_bits",
        "qdeploy.names.few",
        "qdeploy.names.short_name",
        "qdeploy.text.json_text",
        "qdeploy.text.beside",
        "qdeploy.text.visible",
        "qdeploy.machine.faults.machine_fault",
        "qdeploy.files.kept",
        "qdeploy.files.kept.note",
        "qdeploy.files.whole.check_file",
        "qdeploy.files.whole.check_reports",
        "qdeploy.files.whole.write_file",
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
