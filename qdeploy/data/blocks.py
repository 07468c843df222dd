"""Rows in blocks: of a size, or of those that have come while somebody still writes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from qdeploy.errors import DataError

T = TypeVar("T")
_POLL_S = 0.2  # after which a reader looks whether anybody still wants rows


def blocks_of(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Rows in blocks of `size`; what stands before a fault is given before it is raised.

    Raises:
        DataError: of the rows.
    """
    block: list[T] = []
    fault = None
    while fault is None:
        try:
            block.append(next(rows))
        except StopIteration:
            break
        except DataError as error:
            fault = error
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
    if fault is not None:
        raise fault


@dataclass(frozen=True)
class _End:
    """The last thing in the queue: the rows ended, with a fault or without."""

    fault: BaseException | None = None


def as_they_come(rows: Iterator[T], size: int) -> Iterator[list[T]]:
    """Rows in blocks of those that have come, `size` at most; none waits for the next to come.

    A thread reads ahead, two blocks at most, and whoever is ready takes what there is.

    Raises:
        DataError: of the rows, after those that stand before it.
    """
    waiting: queue.Queue[T | _End] = queue.Queue(2 * size)
    stopped = threading.Event()
    reader = threading.Thread(target=_read, args=(rows, waiting, stopped), daemon=True)
    reader.start()
    try:
        while True:
            found = [waiting.get()]
            while len(found) < size and not isinstance(found[-1], _End) and not waiting.empty():
                found.append(waiting.get())
            block = [item for item in found if not isinstance(item, _End)]
            if block:
                yield block
            last = found[-1]
            if isinstance(last, _End):
                if last.fault is not None:
                    raise last.fault
                return
    finally:
        stopped.set()


def _read(rows: Iterator[T], waiting: queue.Queue[T | _End], stopped: threading.Event) -> None:
    """Put rows into the queue for as long as somebody takes them out."""
    end = _End()
    try:
        for row in rows:
            if not _put(row, waiting, stopped):
                return
    except BaseException as error:  # whoever takes the rows is told
        end = _End(error)
    _put(end, waiting, stopped)


def _put(item: T | _End, waiting: queue.Queue[T | _End], stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=_POLL_S)
        except queue.Full:
            continue
        return True
    return False
