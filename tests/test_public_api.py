"""The names at the top of the package, in any order of imports, and their signatures."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qdeploy
from docs import generate_stub
from qdeploy import api
from qdeploy.calibrate.options import PlanOptions
from qdeploy.deploy.options import BuildOptions
from qdeploy.errors import PlanError
from qdeploy.options import changed, flat, make

FUNCTIONS = (
    "build",
    "calibrate",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "load",
    "predict_file",
)


def run(code: str) -> str:
    """Standard output of `code` in a fresh interpreter, where nothing is imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_names_resolve() -> None:
    assert set(FUNCTIONS) < set(qdeploy.__all__)
    for name in qdeploy.__all__:
        assert getattr(qdeploy, name) is not None


def test_dir_lists_the_public_names() -> None:
    assert set(dir(qdeploy)) == set(qdeploy.__all__)


def test_version_is_that_of_the_project_file() -> None:
    assert qdeploy.__version__ == "0.1.0"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'evalaute'"):
        _ = qdeploy.evalaute  # type: ignore[attr-defined]


def test_the_stub_has_every_function_with_its_options() -> None:
    stub = Path(qdeploy.__file__).with_name("__init__.pyi").read_text("utf-8")
    assert stub == generate_stub.stub(), "Type: python docs/generate_stub.py"
    assert "noise_target: float" in stub and "seq_len: int | None" in stub


def test_options_are_an_object_or_keywords(tmp_path: Path) -> None:
    asked = BuildOptions(strategy="fp32", plan=PlanOptions(groups=4))
    assert make(BuildOptions, flat(asked)) == asked
    assert changed(asked, groups=8).plan.groups == 8 and changed(asked, groups=8).strategy == "fp32"
    assert "Groups of channels per site" in (inspect.getdoc(api.build) or "")
    with pytest.raises(TypeError, match="argument 'stratgy'. Did you mean 'strategy'"):
        api.build("model", tmp_path / "engine", stratgy="peg")
    with pytest.raises(PlanError, match="--groups is 0. Give a whole number from 1 to 32"):
        api.build("model", tmp_path / "engine", asked, groups=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_name_is_the_function_of_the_api(name: str) -> None:
    function = getattr(qdeploy, name)
    assert callable(function)
    assert inspect.signature(function) == inspect.signature(getattr(api, name))
    assert inspect.getdoc(getattr(api, name))


# Each line in a fresh interpreter: the name is a module and a function whatever came first.
ORDERS = [
    "import qdeploy; qdeploy.evaluate; import qdeploy.evaluate.metrics",
    "import qdeploy.evaluate.metrics; import qdeploy",
    "import qdeploy.evaluate.metrics as m; import qdeploy",
    "from qdeploy.evaluate.metrics import accuracy; import qdeploy",
    "from qdeploy import evaluate; import qdeploy, qdeploy.evaluate.metrics",
    "from qdeploy import evaluate, calibrate; from qdeploy.evaluate import metrics; import qdeploy",
    "import qdeploy.api; from qdeploy.calibrate import affine; import qdeploy",
]


@pytest.mark.parametrize("order", ORDERS)
def test_name_is_module_and_function_in_any_order(order: str) -> None:
    code = f"""
import sys
{order}
from qdeploy import api
api.evaluate = lambda *args, **kwargs: ("evaluate", args, kwargs)
api.calibrate = lambda *args, **kwargs: ("calibrate", args, kwargs)
assert qdeploy.evaluate("engine", task="qnli") == ("evaluate", ("engine",), {{"task": "qnli"}})
assert qdeploy.calibrate("model") == ("calibrate", ("model",), {{}})
import qdeploy.evaluate.metrics as m
from qdeploy.evaluate.metrics import accuracy
assert m.accuracy is accuracy is qdeploy.evaluate.metrics.accuracy
assert qdeploy.evaluate is sys.modules["qdeploy.evaluate"]
print("both")
"""
    assert run(code) == "both"


def test_help_of_a_callable_module_shows_the_function() -> None:
    assert "engine_dir" in str(inspect.signature(qdeploy.evaluate))


def test_errors_pass_through_a_callable_module() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        qdeploy.evaluate("engine", tsk="qnli")  # type: ignore[call-arg]


USER_CODE = """
import qdeploy
import qdeploy.evaluate.metrics as m
from qdeploy.evaluate.metrics import accuracy

reveal_type(qdeploy.evaluate("engine", task="qnli"))
reveal_type(m.accuracy)
reveal_type(accuracy)
qdeploy.evaluate("engine", tsk="qnli")
"""


@pytest.mark.slow
def test_a_type_checker_sees_functions_and_modules(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(Path(qdeploy.__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert "schemas.evaluation.Evaluation" in lines[0], done.stdout + done.stderr
    assert "def (predicted" in lines[1]
    assert lines[1].partition("note:")[2] == lines[2].partition("note:")[2]
    assert 'Unexpected keyword argument "tsk"' in lines[3]
    assert sum(" error: " in line for line in lines) == 1, done.stdout
