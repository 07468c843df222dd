"""Modules that a test made: loaded for it alone, and gone when it ends.

A folder called `tensorrt` that stays in `sys.modules` is the package to every later test, which
then skips, or fails for a reason of its own.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import qdeploy

# Packages that are not everywhere, for which tests put something else into `sys.modules`.
OPTIONAL = frozenset(
    {"cuda", "datasets", "jinja2", "matplotlib", "openvino", "peft", "ray", "tensorrt"}
)
_OWN = Path(qdeploy.__file__).parents[1].resolve()


def left_behind(before: Iterable[str], folders: Iterable[Path] = ()) -> list[str]:
    """Modules of a test's own making that were loaded since, by name.

    Those whose file lies in a temporary folder; namespace packages outside of what is installed;
    and stand-ins without a file for an optional package.

    Args:
        before: names that were loaded already.
        folders: temporary folders beside the system's.
    """
    temporary = [Path(tempfile.gettempdir()).resolve(), *(f.resolve() for f in folders)]
    new = sys.modules.keys() - set(before)
    return sorted(name for name in new if _is_made(name, sys.modules[name], temporary))


@contextmanager
def importing(folder: Path) -> Iterator[None]:
    """While this lasts the modules of a folder can be imported; afterwards they are forgotten.

    Unlike `monkeypatch.delitem(sys.modules, …)`, which puts back what the test itself imported.
    """
    path, before = list(sys.path), dict(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in left_behind(before, [folder]):
            del sys.modules[name]


def _is_made(name: str, module: ModuleType | None, temporary: list[Path]) -> bool:
    if not isinstance(module, ModuleType):
        return module is None and name in OPTIONAL  # None forbids the import
    file = getattr(module, "__file__", None)
    places = [Path(file)] if isinstance(file, str) else []
    if not places:
        try:
            places = [Path(place) for place in getattr(module, "__path__", [])]
        except Exception:  # lazy modules of other packages
            return False
        if not places:
            return name in OPTIONAL and getattr(module, "__spec__", None) is None
        if not any(_within(place, folder) for place in places for folder in _installed()):
            return True
    if all(any(_within(place, folder) for folder in _installed()) for place in places):
        return False  # the project itself may stand in a temporary folder
    return any(_within(place, folder) for place in places for folder in temporary)


def _installed() -> list[Path]:
    """Where namespace packages come from: the environment, the standard library, this project."""
    paths = sysconfig.get_paths()
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    return [*(Path(paths[name]).resolve() for name in names), _OWN]


def _within(place: Path, folder: Path) -> bool:
    return folder in place.resolve().parents
