"""The Python form of every command: one function each, and no work of their own.

A function takes the options object of its command, or its fields as keywords, or both. Every
function imports what it needs when it is called, so that `import qdeploy` stays light. All of them
raise the errors of `qdeploy.errors`, also of a full disk and of memory (`MachineError`), and take
`progress`, called as `progress(stage, done, total)` while they work.
"""

from __future__ import annotations

from qdeploy.api.make import analyze, build, bundle, calibrate, demo, export, sweep
from qdeploy.api.use import (
    doctor,
    evaluate,
    inspect,
    inspect_against,
    load,
    predict_file,
    sign,
    verify,
)

__all__ = [
    "analyze",
    "build",
    "bundle",
    "calibrate",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "inspect_against",
    "load",
    "predict_file",
    "sign",
    "sweep",
    "verify",
]
