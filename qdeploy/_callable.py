"""A module that can also be called, for the API functions that share a name with a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

# Modules of this package that are functions of `qdeploy.api` too.
CALLABLE = ("analyze", "calibrate", "demo", "evaluate", "sweep")


class CallableModule(ModuleType):
    """A module whose call is the function of the same name in `qdeploy.api`.

    `qdeploy.evaluate` is a subpackage and has to be a function too (docs/adr/0001). Which of the
    two the name means does not depend on what was imported first, because it is always both.
    """

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the function, for `help()` and for editors."""
        return inspect.signature(_function(self))

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call the function of `qdeploy.api` that has this module's name."""
        return _function(self)(*args, **kwargs)


class Package(ModuleType):
    """The package, where the import system binds each subpackage when it is loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        """Bind a name; a module that is a function too becomes callable."""
        if name in CALLABLE and isinstance(value, ModuleType):
            value.__class__ = CallableModule
        super().__setattr__(name, value)


def _function(module: ModuleType) -> Callable[..., object]:
    from qdeploy import api  # here, so that a subpackage alone does not import the whole API

    found: Callable[..., object] = getattr(api, module.__name__.rpartition(".")[2])
    return found
