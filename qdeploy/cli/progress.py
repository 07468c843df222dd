"""Progress on standard error: bars on a terminal, a line per stage elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from qdeploy.cli import streams
from qdeploy.text import visible

_EVERY_S = 10.0  # a log file gets a sign of life about this often, and no more


class PlainProgress:
    """A line when a stage starts, one when it ends, and one every ten seconds between."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._last = 0.0

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, stage: str, done: int, total: int) -> None:
        """Say how far `stage` is; `total` 0 means that nobody knows."""
        now = time.monotonic()
        ended = total > 0 and done >= total
        if stage == self._stage and not ended and now - self._last < _EVERY_S:
            return
        self._stage, self._last = stage, now
        streams.say(f"{stage}: {done}/{total}" if total > 0 else stage)


class RichProgress:
    """One bar per stage, removed when the command ends."""

    def __init__(self) -> None:
        # Imported here: rich takes a tenth of a second that `qdeploy --version` need not wait for.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def update(self, stage: str, done: int, total: int) -> None:
        """Move the bar of `stage`; `total` 0 means that nobody knows."""
        if stage not in self._tasks:
            name = visible(stage, lines=False)
            self._tasks[stage] = self._bars.add_task(name, total=max(total, 1))
        self._bars.update(self._tasks[stage], completed=done, total=max(total, 1))
