"""Every name of TensorRT and CUDA that the code uses, against the real bindings of both versions.

The bindings are the wheels of PyPI; their libraries are not to be had without NVIDIA's own index,
so that empty ones stand in, whose functions return null, as the real ones do without a driver.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.deploy import cuda
from qdeploy.errors import TargetError

WHEELS = ("10.13.2.6", "10.16.1.11", "11.4.0.106")  # the oldest, and the last of 10 and of 11
LIBRARIES = ("nvonnxparser", "nvinfer_plugin", "nvinfer")
# The C functions that the bindings link, with the type of what they return.
FUNCTIONS = (
    "void* createInferBuilder_INTERNAL",
    "void* createInferRefitter_INTERNAL",
    "void* createInferRuntime_INTERNAL",
    "void* createNvOnnxParserRefitter_INTERNAL",
    "void* createNvOnnxParser_INTERNAL",
    "void* getBuilderPluginRegistry",
    "void* getPluginRegistry",
    "int getInferLibVersion",
    "int getNvOnnxParserVersion",
    "int initLibNvInferPlugins",
)
HOME = Path(qdeploy.__file__).parent / "deploy" / "targets" / "tensorrt"
FILES = ("api.py", "builder.py", "opened.py")  # those that both packages serve
CUDA = Path(qdeploy.__file__).parent / "deploy" / "cuda.py"


class Bindings:
    """One version of the bindings, asked in a process of its own."""

    def __init__(self, packages: Path, libraries: Path) -> None:
        self._environment = os.environ | {
            "PYTHONPATH": f"{packages}{os.pathsep}{CUDA.parents[2]}",
            "LD_LIBRARY_PATH": str(libraries),
        }

    def ask(self, code: str) -> Any:
        """The JSON that some code prints; `trt` is the package."""
        head = "import json, sys\nimport tensorrt_bindings as trt\nsys.modules['tensorrt'] = trt\n"
        done = subprocess.run(
            [sys.executable, "-c", head + code],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=WHEELS)
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    version = str(request.param)
    major = version.split(".")[0]
    home = tmp_path_factory.mktemp(f"tensorrt{version}")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here for the empty libraries (Debian: apt-get install gcc)")
    wheel = f"tensorrt-cu13-bindings=={version}"
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(home), wheel]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300)
    found = list(home.glob("*.whl"))
    if not found:
        pytest.skip(f"{wheel} cannot be had here: {done.stderr.strip().splitlines()[-1:]}")
    with zipfile.ZipFile(found[0]) as archive:
        archive.extractall(home / "packages")
    source = home / "empty.c"
    source.write_text("".join(f"{function}(void) {{ return 0; }}\n" for function in FUNCTIONS))
    (home / "libraries").mkdir()
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        target = ["-o", str(home / "libraries" / name), f"-Wl,-soname,{name}"]
        subprocess.run([compiler, "-shared", "-fPIC", str(source), *target], check=True)
    return Bindings(home / "packages", home / "libraries")


def names_of(source: str, root: str = "api") -> set[str]:
    """Dotted names behind `api.` and `self._api.`, and attributes of `variable: trt.Class`."""
    found = set()
    for scope in (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)):
        classes = {}
        arguments = [(a.arg, a.annotation) for a in scope.args.args if a.annotation is not None]
        for node in ast.walk(scope):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                arguments.append((node.target.id, node.annotation))
        for variable, annotation in arguments:
            kind = ast.unparse(annotation)
            if kind.startswith("trt."):
                classes[variable] = kind.removeprefix("trt.")
                found.add(classes[variable])
        for node in ast.walk(scope):
            if not isinstance(node, ast.Attribute):
                continue
            first, _, rest = ast.unparse(node).partition(".")
            if first == root:
                found.add(rest)
            elif first in classes:
                found.add(f"{classes[first]}.{rest}")
    return found


def source_of(*files: str) -> str:
    return "\n".join((HOME / name).read_text("utf-8") for name in files or FILES)


def test_names_are_found_in_the_code() -> None:
    names = names_of(source_of())
    assert len(names) > 40
    assert {
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "IExecutionContext.execute_async_v3",
    } <= names
    assert not any("FP16" in name or "INT8" in name for name in names)  # 11 has no such flags


def missing(bindings: Bindings, names: set[str]) -> list[str]:
    code = f"""
def known(name):
    value = trt
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True
print(json.dumps([name for name in {sorted(names)!r} if not known(name)]))
"""
    found: list[str] = bindings.ask(code)
    return found


def test_every_name_exists_in_both_versions(bindings: Bindings) -> None:
    # `builder.log` and the like are no attributes of pybind classes: none is excepted
    assert missing(bindings, names_of(source_of())) == []


def test_a_name_that_does_not_exist_is_seen(bindings: Bindings) -> None:
    source = (
        "def f(config: trt.IBuilderConfig):\n    config.no_such_thing()\n    api.NoSuchClass()\n"
    )
    assert missing(bindings, names_of(source)) == ["IBuilderConfig.no_such_thing", "NoSuchClass"]


def calls_of(source: str) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    """Methods of annotated variables that are called: how many positional arguments, keywords."""
    found: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for scope in (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)):
        classes = {a.arg: a.annotation for a in scope.args.args if a.annotation is not None}
        for node in ast.walk(scope):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                classes[node.target.id] = node.annotation
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            first, _, method = ast.unparse(node.func).partition(".")
            kind = ast.unparse(classes[first]) if first in classes else ""
            if kind.startswith("trt."):
                words = tuple(str(k.arg) for k in node.keywords)
                name = f"{kind.removeprefix('trt.')}.{method}"
                found.setdefault(name, []).append((len(node.args), words))
    return found


def fits(text: str, method: str, positional: int, words: tuple[str, ...]) -> bool:
    """Whether one of the signatures that pybind writes into a docstring takes such a call."""
    for signature in re.findall(rf"(?<!\w){method}\((self: .*)\) ->", text):
        arguments = re.split(r", (?=\w+: )", signature)[1:]
        names = [argument.split(":")[0] for argument in arguments]
        needed = {n for n, argument in zip(names, arguments, strict=True) if " = " not in argument}
        given = set(names[:positional]) | set(words)
        if positional <= len(names) and set(words) <= set(names) and needed <= given:
            return True
    return False


def test_the_reader_of_signatures_tells_right_from_wrong() -> None:
    text = "f(self: t.C, a: int, b: t.D = <D.X: 0>) -> bool\n\n2. f(self: t.C, c: str) -> int"
    for positional, words, right in (
        (1, (), True),
        (2, (), True),
        (1, ("b",), True),
        (0, ("c",), True),
        (0, (), False),
        (3, (), False),
        (1, ("d",), False),
        (0, ("b",), False),
    ):
        assert fits(text, "f", positional, words) == right, (positional, words)


def test_arguments_are_those_of_the_signatures(bindings: Bindings) -> None:
    calls = calls_of(source_of())
    assert len(calls) > 20
    names = sorted(calls)
    code = f"""
def text(name):
    value = trt
    for part in name.split("."):
        value = getattr(value, part)
    return value.__doc__ or ""
print(json.dumps({{name: text(name) for name in {names!r}}}))
"""
    texts = bindings.ask(code)
    wrong = [
        (name, call)
        for name in names
        for call in calls[name]
        if not fits(texts[name], name.split(".")[-1], *call)
    ]
    assert wrong == []


def test_properties_that_are_set_can_be_set(bindings: Bindings) -> None:
    code = """
wanted = [("IBuilderConfig", "profiling_verbosity"), ("Runtime", "engine_host_code_allowed"),
          ("EngineInspector", "execution_context"), ("IExecutionContext", "profiler")]
print(json.dumps([name for kind, name in wanted if vars(getattr(trt, kind))[name].fset is None]))
"""
    assert bindings.ask(code) == []


def test_types_of_tensors_become_numpys(bindings: Bindings) -> None:
    code = (
        "print(json.dumps([str(trt.nptype(getattr(trt.DataType, n))) for n in ('INT64', 'HALF')]))"
    )
    assert [("int64" in t, "float16" in t) for t in bindings.ask(code)] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("step", ["build_plan(Path('x.onnx'), Settings({}))", "Opened(b'x')"])
def test_without_a_driver_the_reason_is_said(bindings: Bindings, step: str) -> None:
    code = f"""
from pathlib import Path
from qdeploy.deploy.targets.tensorrt.builder import Settings, build_plan
from qdeploy.deploy.targets.tensorrt.opened import Opened
from qdeploy.errors import TargetError
try:
    {step}
except TargetError as error:
    print(json.dumps(str(error)))
"""
    assert "needs an NVIDIA GPU and its driver" in bindings.ask(code)


def test_a_logger_and_a_profiler_of_our_own_are_taken(bindings: Bindings) -> None:
    code = """
from qdeploy.deploy.targets.tensorrt.api import TENSORRT
logger = TENSORRT.logger()
logger.log(trt.ILogger.Severity.ERROR, "broken")
logger.log(trt.ILogger.Severity.INFO, "said")
logger.log(trt.ILogger.Severity.VERBOSE, "chatter")
print(json.dumps([list(logger.lines), TENSORRT.last(), logger is TENSORRT.logger()]))
"""
    assert bindings.ask(code) == [["ERROR: broken", "INFO: said"], "ERROR: broken", True]


def test_every_name_of_the_cuda_runtime_exists() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    text = CUDA.read_text("utf-8")
    names = {
        ast.unparse(node).partition("cudart.")[2]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and "cudart." in ast.unparse(node)
    }
    assert len(names) > 20
    for name in names:
        value: Any = runtime
        for part in name.split("."):
            value = getattr(value, part)


def test_an_error_of_cuda_is_an_error() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    code, _ = runtime.cudaGetDeviceCount()
    if int(code) == 0:
        pytest.skip("there is a GPU here")
    with pytest.raises(TargetError, match="cudaGetDeviceCount"):
        cuda.device()
