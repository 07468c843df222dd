"""A Ray cluster: connecting to it, its nodes, and files that its tasks read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar

from qdeploy.errors import TargetError
from qdeploy.machine.remedies import install_command
from qdeploy.sweep.parcel import pack

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Ref(Protocol[T_co]):
    """A value that a cluster holds or will hold, as Ray's ObjectRef names it."""

    def __hash__(self) -> int: ...


class Task(Protocol[T_co]):
    """A function that runs on a node."""

    def options(self, **options: object) -> Task[T_co]: ...

    def remote(self, *args: object) -> Ref[T_co]: ...


class Remote(Protocol):
    """What makes a task of a function."""

    def __call__(self, function: Callable[..., T]) -> Task[T]: ...


class RayTaskError(Exception):
    """As Ray's: a task raised `cause`."""

    cause: Exception


class RayErrors(Protocol):
    """Ray's own exceptions."""

    RayError: type[Exception]
    RayTaskError: type[RayTaskError]


class Node(TypedDict):
    """A node of a cluster, as Ray describes it."""

    NodeID: str
    Alive: bool
    Resources: dict[str, float]


class Ray(Protocol):
    """What is used of the package, which has no types of its own."""

    exceptions: RayErrors

    def nodes(self) -> list[Node]: ...

    def put(self, value: T) -> Ref[T]: ...

    def get(self, ref: Ref[T]) -> T: ...

    def wait(
        self, refs: Sequence[Ref[T]], *, timeout: float
    ) -> tuple[list[Ref[T]], list[Ref[T]]]: ...

    def remote(self, **options: object) -> Remote: ...


class Connection:
    """One connection; what was sent over it is not sent again.

    Attributes:
        ray: the package, connected.
    """

    def __init__(self, address: str) -> None:
        """Connect.

        Args:
            address: of the cluster's head, or "auto" for the one of this machine.

        Raises:
            TargetError: Ray is not installed, or no cluster answers.
        """
        try:
            import ray
        except ImportError:
            raise TargetError(
                f"--ray-address needs Ray, here and on every node. Type: {install_command('sweep')}"
            ) from None
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise TargetError(
                f"No Ray cluster answers at {address}: {error} Start one with `ray start --head`."
            ) from error
        self.ray: Ray = ray
        self._kits: dict[tuple[Path, ...], tuple[Ref[bytes], str]] = {}

    def nodes(self) -> list[Node]:
        """Living nodes that can run a task, as Ray describes them."""
        return [n for n in self.ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]

    def kit(self, files: Mapping[str, Path]) -> tuple[Ref[bytes], str]:
        """Files for `unpack_once`: a reference to their parcel, and the name of its content."""
        key = tuple(files.values())
        if key not in self._kits:
            parcel = pack(files)
            self._kits[key] = (self.ray.put(parcel), hashlib.sha256(parcel).hexdigest()[:20])
        return self._kits[key]
