"""A module that can also be called, for the API functions that share a name with a module."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Any


class CallableModule(ModuleType):
    """A module whose call is the function of the same name in `qdeploy.api`.

    `qdeploy.evaluate` is a subpackage and has to be a function too (docs/adr/0001). Which of the
    two the name means does not depend on what was imported first, because it is always both.
    """

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the function, for `help()` and for editors."""
        return inspect.signature(_function(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of `qdeploy.api` that has this module's name."""
        return _function(self)(*args, **kwargs)


def make_callable(name: str) -> None:
    """Turn the module that is being imported under `name` into a `CallableModule`."""
    sys.modules[name].__class__ = CallableModule


def _function(module: ModuleType) -> Any:
    from qdeploy import api  # here, so that a subpackage alone does not import the whole API

    return getattr(api, module.__name__.rpartition(".")[2])
