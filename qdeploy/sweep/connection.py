"""A Ray cluster: connecting to it, its nodes, and files that its tasks read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdeploy.errors import TargetError
from qdeploy.machine.remedies import install_command
from qdeploy.sweep.parcel import pack


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
        self.ray: Any = ray
        self._kits: dict[tuple[Path, ...], tuple[Any, str]] = {}

    def nodes(self) -> list[dict[str, Any]]:
        """Living nodes that can run a task, as Ray describes them."""
        return [n for n in self.ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]

    def kit(self, files: Mapping[str, Path]) -> tuple[Any, str]:
        """Files for `unpack_once`: a reference to their parcel, and the name of its content."""
        key = tuple(files.values())
        if key not in self._kits:
            parcel = pack(files)
            self._kits[key] = (self.ray.put(parcel), hashlib.sha256(parcel).hexdigest()[:20])
        return self._kits[key]
