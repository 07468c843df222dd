"""Write qdeploy/__init__.pyi: the functions with every option, for editors and type checkers.

python docs/generate_stub.py      # a test holds the file against what this prints
"""

from __future__ import annotations

import inspect
from pathlib import Path

import qdeploy
from qdeploy import api

STUB = Path(qdeploy.__file__).with_name("__init__.pyi")
FUNCTIONS = [name for name in qdeploy.__all__ if name not in ("__version__", "errors")]
HEAD = '''"""Made by docs/generate_stub.py of the options classes; not to be edited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdeploy import errors as errors
from qdeploy.analyze.options import AnalyzeOptions
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.data.tasks import Columns
from qdeploy.deploy.options import BuildOptions
from qdeploy.evaluate.options import EvalOptions, PredictOptions
from qdeploy.evaluate.predictor import Predictor
from qdeploy.sweep.options import SweepOptions
from qdeploy.types import PathLike, Progress

__all__: list[str]
__version__: str

'''


def stub() -> str:
    """The text of the file."""
    return HEAD + "\n".join(_function(name) for name in FUNCTIONS)


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
