"""An engine belongs to the process that loaded it."""

from __future__ import annotations

import os

from qdeploy.errors import TargetError


class OfOneProcess:
    """What every engine extends: no use after a fork, and no pickle.

    A fork copies memory without the threads, streams and locks of a runtime: a run would wait for
    them for ever.
    """

    def __init__(self) -> None:
        self._process = os.getpid()

    def check_process(self) -> None:
        """Refuse to run in a process that was forked off.

        Raises:
            TargetError: with the way out.
        """
        if os.getpid() != self._process:
            raise TargetError(
                f"This engine was loaded in process {self._process} and this is {os.getpid()}, "
                "forked off: no runtime survives that. Start workers with 'spawn' or "
                "'forkserver', or call qdeploy.load() in each worker and not before."
            )

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(
            "An engine cannot be pickled. Pickle what qdeploy.load() gives, which loads its "
            "directory again, or send the directory's name."
        )
