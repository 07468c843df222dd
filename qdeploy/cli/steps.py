"""Which steps of a command run and which have ended, from what a progress callback is told."""

from __future__ import annotations

from dataclasses import dataclass

_SETTLED_S = 2.0  # earlier than this, the time of a step says little about what is left


@dataclass
class Step:
    """One step of a command.

    Attributes:
        name: as the callback was told.
        began: when it was first named, s.
        done, total: how far it is; a total of 0 is unknown, of 1 a step that cannot be counted.
        ended: when it ended, s; None while it runs.
    """

    name: str
    began: float
    done: int = 0
    total: int = 0
    ended: float | None = None

    @property
    def counted(self) -> bool:
        """Whether its parts are counted."""
        return self.total > 1

    def elapsed(self, now: float) -> float:
        """Seconds that it has run, or ran."""
        return max((now if self.ended is None else self.ended) - self.began, 0.0)

    def left(self, now: float) -> float | None:
        """Seconds that are left if it goes on as it went; None where nobody can say."""
        elapsed = self.elapsed(now)
        if not self.counted or not 0 < self.done < self.total or elapsed < _SETTLED_S:
            return None
        return elapsed * (self.total - self.done) / self.done


class Steps:
    """Steps by name, in the order in which they began.

    A counted step ends when all of it is done, and other steps may run within it. A step that
    cannot be counted ends then too, or when another one begins.
    """

    def __init__(self) -> None:
        self._running: dict[str, Step] = {}
        self._last: str | None = None  # the name of the step that ended last

    @property
    def running(self) -> list[Step]:
        """Those that run, the innermost last."""
        return list(self._running.values())

    def update(self, name: str, done: int, total: int, now: float) -> tuple[bool, list[Step]]:
        """Take what a progress callback was told.

        Args:
            name, done, total: of the callback.
            now: s.

        Returns:
            Whether a step began, and the steps that ended.
        """
        all_done = 0 < total <= done
        if all_done and name not in self._running and name == self._last:
            return False, []  # a step that ended says so once more
        ended = [s for s in self.running if s.name != name and not s.counted]
        for step in ended:
            self._end(step, now)
        began = name not in self._running
        step = self._running.setdefault(name, Step(name, now))
        step.done, step.total = done, total
        if all_done:
            self._end(step, now)
            ended.append(step)
        return began, ended

    def close(self, now: float) -> list[Step]:
        """End all that runs, the innermost first."""
        found = self.running[::-1]
        for step in found:
            self._end(step, now)
        return found

    def _end(self, step: Step, now: float) -> None:
        step.ended = now
        self._last = step.name
        del self._running[step.name]


def duration(seconds: float) -> str:
    """A time to read.

    >>> duration(0.42), duration(42.4), duration(187), duration(7320)
    ('0.4 s', '42 s', '3 min 07 s', '2 h 02 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
