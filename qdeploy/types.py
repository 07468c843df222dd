"""Types that every room uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the command line starts without numpy
    import numpy.typing as npt

# A value of a JSON file that nobody has looked at yet.
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Array: TypeAlias = "npt.NDArray[Any]"
PathLike: TypeAlias = str | Path
Progress: TypeAlias = Callable[[str, int, int], None]  # stage, done, total; called during the work
# A caller's metric. It takes the outputs of each row, as `logits()` of a loaded engine gives them,
# with the `tags` of its words or its `answer` beside them; and the labels, or None: as the rows
# spell them, or lists of tags, of classes, of gold answers. It gives a number; more is better.
OwnMetric: TypeAlias = "Callable[[Sequence[Mapping[str, Any]], Sequence[Any] | None], float]"


def as_path(path: PathLike | None) -> Path | None:
    """A place as a `Path`, where there is one."""
    return None if path is None else Path(path)
