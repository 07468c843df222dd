"""Write qdeploy/__init__.pyi: the functions with every option, for editors and type checkers.

python docs/generate_stub.py      # a test holds the file against what this prints
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import qdeploy
from qdeploy import api, schemas

STUB = Path(qdeploy.__file__).with_name("__init__.pyi")
FUNCTIONS = [name for name in qdeploy.__all__ if name not in ("__version__", "errors")]
HEAD = '''"""Made by docs/generate_stub.py of the options classes; not to be edited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdeploy import errors as errors
from qdeploy.against.options import AgainstOptions
from qdeploy.analyze.options import AnalyzeOptions
from qdeploy.bundles.options import BundleOptions
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.data.tasks import Columns
from qdeploy.deploy.options import BuildOptions
from qdeploy.evaluate.options import EvalOptions, PredictOptions
from qdeploy.evaluate.predictor import Predictor
from qdeploy.exporter.options import ExportOptions
{documents}from qdeploy.sweep.options import SweepOptions
from qdeploy.types import OwnMetric, PathLike, Progress
from qdeploy.verification.options import SignOptions, VerifyOptions

__all__: list[str]
__version__: str

'''


def stub() -> str:
    """The text of the file."""
    functions = "\n".join(_function(name) for name in FUNCTIONS)
    return HEAD.replace("{documents}", "".join(_imports(functions))) + functions


def _imports(functions: str) -> Iterator[str]:
    """A line for each type of a document that the functions name."""
    words = set(re.findall(r"[A-Z]\w+", functions))
    for module in sorted(info.name for info in pkgutil.iter_modules(schemas.__path__)):
        known = vars(importlib.import_module(f"{schemas.__name__}.{module}"))
        own = (
            name for name in words if getattr(known.get(name), "__module__", "").endswith(module)
        )
        if names := ", ".join(sorted(own)):
            yield f"from {schemas.__name__}.{module} import {names}\n"


def _function(name: str) -> str:
    signature = inspect.signature(getattr(api, name))
    lines = [f"def {name}("]
    star = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            lines.append("    *,")
            star = True
        default = "" if parameter.default is parameter.empty else " = ..."
        lines.append(f"    {parameter.name}: {parameter.annotation}{default},")
    return "\n".join([*lines, f") -> {signature.return_annotation}: ...", ""])


if __name__ == "__main__":
    STUB.write_text(stub(), "utf-8")
