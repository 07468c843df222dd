"""Data sets of the Hugging Face hub, through `datasets` (the extra `hub`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from qdeploy.data.readers import Record, Table
from qdeploy.errors import DataError
from qdeploy.machine.remedies import install_command

if TYPE_CHECKING:
    import datasets

# What the two splits of this project are called on the hub.
SPLITS = {"evaluation": "validation", "calibration": "train"}


def candidates(name: str) -> list[tuple[str, str | None]]:
    """The (repository, configuration) pairs that a hub name can mean, likeliest first.

    >>> candidates("glue/qnli")
    [('nyu-mll/glue', 'qnli')]
    >>> candidates("acme/reviews")
    [('acme/reviews', None), ('acme', 'reviews')]
    """
    parts = name.split("/")
    if parts[0] == "glue" and len(parts) == 2:
        return [("nyu-mll/glue", parts[1])]
    if len(parts) == 1:
        return [(name, None)]
    if len(parts) == 2:
        return [(name, None), (parts[0], parts[1])]
    return [("/".join(parts[:2]), "/".join(parts[2:]))]


def read_hub(name: str, split: str) -> Table:
    """Load one split of a hub data set; class labels come as names.

    Args:
        name: `NAME`, `NAME/CONFIG`, `OWNER/NAME` or `OWNER/NAME/CONFIG`.
        split: "evaluation" (the hub's `validation`) or "calibration" (`train`).

    Raises:
        DataError: `datasets` is not installed, the hub is not reachable, or has no such set.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"hub:{name}: hub data sets need the package datasets, which is not installed here. "
            f"Run `{install_command('hub')}`, or pass a file or directory."
        ) from None
    failures = []
    for repository, configuration in candidates(name):
        try:
            part = _split(repository, configuration, split)
            loaded = datasets.load_dataset(repository, configuration, split=part)
        except Exception as error:  # every kind of network, hub and format error ends here
            first_line = str(error).strip().partition("\n")[0]
            failures.append(f"{type(error).__name__}: {first_line}")
        else:
            return _table(f"hub:{name} [{part}]", loaded)
    raise DataError(
        f"hub:{name}: the split '{SPLITS[split]}' could not be loaded ({'; '.join(failures)}). "
        "Check the name and the network, or download the files and pass their path."
    )


def _split(repository: str, configuration: str | None, split: str) -> str:
    """What the hub calls a split; of MNLI's two validation sets the matched one is taken."""
    if (repository, configuration, split) == ("nyu-mll/glue", "mnli", "evaluation"):
        return "validation_matched"
    return SPLITS[split]


def _table(name: str, loaded: datasets.Dataset) -> Table:
    columns = tuple(loaded.column_names)
    classes = {
        column: names
        for column, feature in loaded.features.items()
        if (names := _class_names(feature)) is not None
    }

    def read(wanted: Collection[str]) -> Iterator[Record]:
        # a column of images that nobody looks at would be decoded
        needed = [column for column in columns if column in wanted]
        at = 0
        try:
            for at, values in enumerate(loaded.select_columns(needed) if needed else loaded, 1):
                named = {
                    column: _named(value, classes[column]) if column in classes else value
                    for column, value in values.items()
                }
                yield f"row {at}", named
        except Exception as error:  # a damaged cache, a format that is not installed
            raise DataError(
                f"{name}, row {at + 1} cannot be read ({type(error).__name__}: {error!s:.200}). "
                "Download the set anew, or pass its files."
            ) from error

    return Table(name, columns, read)


def _class_names(feature: object) -> list[str] | None:
    """Class names by index of a class label, and of a list of them; None of other features."""
    found = getattr(feature, "names", None) or getattr(
        getattr(feature, "feature", None), "names", None
    )
    return list(found) if found else None


def _named(value: object, names: list[str]) -> object:
    """A class by its name, and each of a list; the hub writes -1 for an unlabelled row."""
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and value >= 0 else value
