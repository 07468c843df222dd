"""What each site costs, measured: the model runs with sites in 8 bits one by one.

Leaving one site out, and in, is how Bondarenko et al. 2021 (arXiv 2109.12948, tables 2 and 3) find
what breaks W8A8. Here the measure is first of all the signal to noise ratio of the logits, which
needs no labels and tells sites apart that change no answer of a small sample.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from qdeploy.analyze.outcome import Outcome, Reference
from qdeploy.analyze.rounding import Rounding
from qdeploy.analyze.segments import SegmentedModel, State
from qdeploy.head import Head
from qdeploy.types import Array, Progress

Feeds = Mapping[str, Array]
T = TypeVar("T")

# What is kept at the cuts of the two runs that the others start from; of more rows fewer cuts.
_KEPT_BYTES = 1 << 28


class Costs:
    """Measurements of a model on one sample of rows.

    Args:
        model: cut behind its sites.
        batches: int64 [B, S] feeds.
        head: what its logits mean.
        every: how each site of the scope is rounded, by tensor name.
        everywhere: all readers of a site read it rounded (scope all), not its GEMMs alone.
        threads: sites that are measured side by side.
        seconds: after so long no further site is begun.

    Attributes:
        reference: FP32's logits.
        whole: the outcome with `every`.
    """

    def __init__(
        self,
        model: SegmentedModel,
        batches: Sequence[Feeds],
        head: Head,
        every: Mapping[str, Rounding],
        *,
        everywhere: bool,
        threads: int = 2,
        seconds: float = float("inf"),
    ) -> None:
        self._model, self._batches, self._every = model, list(batches), every
        self._everywhere, self._threads = everywhere, threads
        self._end = time.monotonic() + seconds
        self._cuts = self._affordable_cuts()
        logits, self._exact = self._from_the_start({}, everywhere, self._cuts)
        masks = [feeds["attention_mask"] for feeds in self._batches]
        self.reference = Reference(logits, masks, head)
        logits, self._coarse = self._from_the_start(every, everywhere, self._cuts)
        self.whole = self.reference.compare(logits)

    def together(
        self, rounded: Mapping[str, Rounding], *, everywhere: bool | None = None
    ) -> Outcome:
        """Any sites rounded at once; `everywhere` as for the class, which is the default."""
        where = self._everywhere if everywhere is None else everywhere
        return self.reference.compare(self._from_the_start(rounded, where, ())[0])

    def alone(self, tensor: str, rounding: Rounding) -> Outcome:
        """One site rounded, and all else FP32."""
        return self._resumed(tensor, {tensor: rounding}, self._exact)

    def without(self, tensor: str) -> Outcome:
        """Every site rounded but this one."""
        rest = {name: how for name, how in self._every.items() if name != tensor}
        return self._resumed(tensor, rest, self._coarse)

    def each(
        self,
        tensors: Iterable[str],
        measure: Callable[[str], T],
        stage: str,
        progress: Progress | None = None,
    ) -> dict[str, T]:
        """Measure sites side by side, in this order, for as long as there is time.

        Returns:
            Results by tensor name; those that there was no time for are left out.
        """
        found: dict[str, T] = {}
        with ThreadPoolExecutor(self._threads) as pool:
            futures = {pool.submit(self._in_time, measure, name): name for name in tensors}
            try:
                if progress is not None and futures:
                    progress(stage, 0, len(futures))
                for done, future in enumerate(as_completed(futures), 1):
                    for result in future.result():
                        found[futures[future]] = result
                    if progress is not None:
                        progress(stage, done, len(futures))
            finally:  # an error, or Ctrl-C: what has not begun need not
                for future in futures:
                    future.cancel()
        return found

    def _in_time(self, measure: Callable[[str], T], tensor: str) -> list[T]:
        return [measure(tensor)] if time.monotonic() < self._end else []

    def _resumed(
        self, tensor: str, rounded: Mapping[str, Rounding], states: list[dict[int, State]]
    ) -> Outcome:
        """A run that differs from a kept one by one site, from the last cut in front of it."""
        start = max((cut for cut in self._cuts if cut <= self._model.cut_of[tensor]), default=0)
        logits = [
            self._model.run(
                feeds,
                rounded,
                everywhere=self._everywhere,
                start=start,
                state=kept[start] if start else None,
            )[0]
            for feeds, kept in zip(self._batches, states, strict=True)
        ]
        return self.reference.compare(logits)

    def _from_the_start(
        self, rounded: Mapping[str, Rounding], everywhere: bool, cuts: Sequence[int]
    ) -> tuple[list[Array], list[dict[int, State]]]:
        """Logits and kept states of a whole run, by batch."""

        def run(feeds: Feeds) -> tuple[Array, dict[int, State]]:
            return self._model.run(feeds, rounded, everywhere=everywhere, keep=cuts)

        with ThreadPoolExecutor(self._threads) as pool:
            found = list(pool.map(run, self._batches))
        return [logits for logits, _ in found], [kept for _, kept in found]

    def _affordable_cuts(self) -> tuple[int, ...]:
        """The cuts whose values are kept: all narrow ones, or each second, third, ... of them."""
        narrow = self._model.narrow_cuts
        _, kept = self._model.run(self._batches[0], {}, keep=narrow)
        unique = {id(array): array.nbytes for state in kept.values() for array in state.values()}
        both = 2 * sum(unique.values()) * len(self._batches)
        return narrow[:: max(1, math.ceil(both / _KEPT_BYTES))]
