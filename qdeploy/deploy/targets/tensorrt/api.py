"""TensorRT 10 and 11, and TensorRT-RTX: the packages, their logger, and what they make.

One code path serves all: strongly typed networks without precision flags, which 11 and RTX know
alone and 10 takes too. A test holds every name that is used here, in `builder` and in `opened`
against the bindings of each version.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeVar

from qdeploy.deploy.health import rtx_package, tensorrt_package
from qdeploy.errors import TargetError, genuine

if TYPE_CHECKING:
    import tensorrt as trt

_KEPT_LINES = 10_000
_DUMP = "Layers:"  # begins the one message that lists every layer of a finished engine
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Library:
    """A compiler with TensorRT's interface.

    Attributes:
        module: name of its Python package.
        title: for texts.
        install: what to type where it is missing.
        ahead_of_time: builds for devices that are named, without one at hand (TensorRT-RTX); what
            it builds is finished on the device, when it is loaded.
    """

    module: str
    title: str
    install: Callable[[], str]
    ahead_of_time: bool = False

    def is_there(self) -> bool:
        """Whether the package is installed, without its import."""
        return importlib.util.find_spec(self.module) is not None

    def package(self) -> ModuleType:
        """The Python package.

        Raises:
            TargetError: it is not installed, or its libraries are missing.
        """
        try:
            found = importlib.import_module(self.module)
        except Exception as error:  # a missing library is an OSError, a broken stub anything
            text = f"{self.module} cannot be imported: {error}. {self.install()}"
            raise TargetError(text) from None
        return genuine(found, "Builder", "NVIDIA's", self.install())

    def made(self, kind: Callable[[Lines], _Made]) -> _Made:
        """A builder or runtime.

        Raises:
            TargetError: there is no GPU or driver.
        """
        try:
            return kind(self.logger())
        except TypeError as error:  # what the bindings raise for a null pointer
            raise TargetError(
                f"{self.title} does not start: {error}. It needs an NVIDIA GPU and its driver; "
                "`qdeploy doctor` says what is here."
            ) from None

    def logger(self) -> Lines:
        """The logger of the process."""
        return _logger(self)

    def last(self) -> str:
        """The last error that was logged, or the last line."""
        lines = list(self.logger().lines)
        errors = [line for line in lines if "ERROR" in line.split(":")[0]]
        return (errors or lines or ["no reason given"])[-1]


TENSORRT = Library("tensorrt", "TensorRT", tensorrt_package)
RTX = Library("tensorrt_rtx", "TensorRT-RTX", rtx_package, ahead_of_time=True)


class Lines(Protocol):
    """Our logger, whose class extends one of TensorRT's and so is made at run time.

    Attributes:
        lines: warnings, errors and what the builder says of its progress.
        dump: of the last finished engine, every layer; empty where none was told.
    """

    lines: deque[str]
    dump: str


@cache
def _logger(library: Library) -> Lines:
    """The logger of the process: TensorRT keeps the first that it is given."""
    api = library.package()

    class Logger(api.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
            self.dump = ""

        def log(self, severity: trt.ILogger.Severity, message: str) -> None:
            if message.startswith(_DUMP):
                self.dump = message
            elif severity <= api.ILogger.Severity.INFO:
                self.lines.append(f"{severity.name}: {message}")

    return Logger()
