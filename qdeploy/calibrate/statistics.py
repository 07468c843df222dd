"""The statistics of a model: one `SiteStatistics` per site, on disk as one npz file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from qdeploy.calibrate.observer import BINS, SiteStatistics
from qdeploy.calibrate.tokens import TokenStatistics
from qdeploy.data.lengths import RowLengths
from qdeploy.errors import StatisticsError
from qdeploy.lease import leased_folder, sweep

FORMAT = 3
_AGAIN = "`qdeploy calibrate MODEL_DIR` makes it again."
_ROUNDED = 1e-3
_EXPONENTS = range(-40, 129)  # of FP32 values, and where a histogram of zeros starts
# What numpy, zipfile and zlib raise on a file that is cut, changed or something else.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Origin:
    """What statistics were made from; two of the same model may be merged.

    Attributes:
        model_sha256: of model.onnx.
        data: what the rows came from, for the reader.
        data_hash: of the rows' content.
        rows: how many.
        seed: of the sampling.
        max_length: tokens per row at most.
        row_hashes: one short hash per row, so that evaluation can tell rows it has seen.
        row_lengths: tokens of each row after the cut, so that it can tell rows of other lengths.
        truncated: rows that were cut at `max_length`.
        token_classes: names of the classes of tokens that are told apart [T].
    """

    model_sha256: str
    data: str
    data_hash: str
    rows: int
    seed: int
    max_length: int
    row_hashes: tuple[str, ...] = ()
    token_classes: tuple[str, ...] = ()
    row_lengths: tuple[int, ...] = ()
    truncated: int = 0

    @property
    def lengths(self) -> RowLengths:
        """How long the rows were, and how many were cut."""
        return RowLengths(self.row_lengths, self.truncated, self.max_length)


@dataclass
class Statistics:
    """Statistics by tensor name, and their origin."""

    origin: Origin
    sites: dict[str, SiteStatistics]

    def save(self, path: Path) -> None:
        """Write one .npz, under a temporary name first."""
        arrays: dict[str, Any] = {"origin": np.array(json.dumps(_origin_json(self.origin)))}
        for name, site in self.sites.items():
            arrays[f"{name}/range"] = np.stack([site.minimum, site.maximum])
            arrays[f"{name}/sums"] = site.sums
            arrays[f"{name}/histogram"] = site.histogram
            arrays[f"{name}/shape"] = np.array([site.count, site.exponent])
            if site.tokens is not None:
                arrays[f"{name}/tokens"] = site.tokens.count
                arrays[f"{name}/by_token"] = np.stack([site.tokens.energy, site.tokens.peak])
        sweep(path.parent)
        with leased_folder(path.parent, path.stem) as folder:
            partial = folder / path.name
            with partial.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote.

        Raises:
            StatisticsError: no such file, or not one of statistics.
        """
        if path.exists() and not path.is_file():
            raise StatisticsError(f"{path} is no file, and statistics are one. {_AGAIN}")
        try:
            # np.load leaves a file that it opened itself open when the archive is damaged
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                origin = json.loads(str(arrays["origin"]))
                if origin.pop("format") != FORMAT:
                    raise StatisticsError(
                        f"{path} was written by another version of qdeploy. {_AGAIN}"
                    )
                for key in ("row_hashes", "token_classes", "row_lengths"):
                    origin[key] = tuple(origin[key])
                known = {f.name for f in fields(Origin)}
                origin = {key: value for key, value in origin.items() if key in known}
                names = [k.removesuffix("/sums") for k in arrays.files if k.endswith("/sums")]
                sites = {name: _site(arrays, name) for name in names}
                return cls(Origin(**origin), sites)
        except FileNotFoundError:
            raise StatisticsError(
                f"{path} does not exist. Make statistics with `qdeploy calibrate MODEL_DIR`."
            ) from None
        except _DAMAGE as error:
            raise StatisticsError(
                f"{path} is not a file of statistics ({error or type(error).__name__}). {_AGAIN}"
            ) from error

    def merge(self, other: Statistics) -> None:
        """Take in statistics of the same model over other rows.

        Raises:
            StatisticsError: of another model.
        """
        self.require_model(other.origin.model_sha256)
        merge_sites(self.sites, other.sites)
        self.origin = Origin(
            model_sha256=self.origin.model_sha256,
            data=f"{self.origin.data} + {other.origin.data}",
            data_hash=f"{self.origin.data_hash}+{other.origin.data_hash}",
            rows=self.origin.rows + other.origin.rows,
            seed=self.origin.seed,
            max_length=max(self.origin.max_length, other.origin.max_length),
            row_hashes=self.origin.row_hashes + other.origin.row_hashes,
            token_classes=self.origin.token_classes,
            row_lengths=self.origin.row_lengths + other.origin.row_lengths,
            truncated=self.origin.truncated + other.origin.truncated,
        )

    def require_model(self, model_sha256: str) -> None:
        """Refuse statistics of another model.

        Raises:
            StatisticsError: with both hashes.
        """
        if self.origin.model_sha256 != model_sha256:
            raise StatisticsError(
                "The statistics belong to another model (model.onnx "
                f"{self.origin.model_sha256[:12]}…, and this one is {model_sha256[:12]}…). "
                "Run `qdeploy calibrate` on this model."
            )


def merge_sites(into: dict[str, SiteStatistics], other: Mapping[str, SiteStatistics]) -> None:
    """Take in another pass over the same model; a site that is new is taken as it is.

    Raises:
        StatisticsError: one site has another number of channels.
    """
    for name, site in other.items():
        if name in into:
            into[name].merge(site)
        else:
            into[name] = site


def _origin_json(origin: Origin) -> dict[str, Any]:
    return {"format": FORMAT, **origin.__dict__}


def _site(arrays: Any, name: str) -> SiteStatistics:
    """The statistics of one site.

    Raises:
        ValueError: numbers that no observation gives.
        KeyError: an array is missing.
    """
    minimum, maximum = arrays[f"{name}/range"]
    count, exponent = (int(v) for v in arrays[f"{name}/shape"])
    tokens = None
    if f"{name}/tokens" in arrays.files:
        tokens = TokenStatistics(arrays[f"{name}/tokens"], *arrays[f"{name}/by_token"])
    found = SiteStatistics(
        count=count,
        minimum=minimum,
        maximum=maximum,
        sums=arrays[f"{name}/sums"],
        histogram=arrays[f"{name}/histogram"],
        exponent=exponent,
        tokens=tokens,
    )
    if fault := _fault(found):
        raise ValueError(f"{name}: {fault}")
    return found


def _fault(site: SiteStatistics) -> str:
    """Why these numbers are of no observation; empty where they may be."""
    c = site.minimum.size
    shapes: list[tuple[str, Any, tuple[int, ...]]] = [("range", site.minimum, (c,))]
    shapes += [("range", site.maximum, (c,))]
    shapes += [("sums", site.sums, (4, c)), ("histogram", site.histogram, (BINS,))]
    if site.tokens is not None:
        t = site.tokens.count.size
        shapes += [("tokens", site.tokens.count, (t,))]
        shapes += [("tokens", a, (t, c)) for a in (site.tokens.energy, site.tokens.peak)]
    for what, array, shape in shapes:
        if array.dtype.kind not in "iuf" or array.shape != shape:
            return f"its {what} has the shape {array.shape}, and {shape} was expected"
        if not np.isfinite(array).all():
            return f"its {what} holds NaN or infinity"
    if c < 1 or site.count < 1 or site.exponent not in _EXPONENTS:
        return f"{c} channels, {site.count} elements and the exponent {site.exponent} are no site's"
    if (site.minimum > site.maximum).any():
        return "a minimum is above its maximum"
    if site.histogram.dtype.kind == "f" or (site.histogram < 0).any():
        return "its histogram holds what is no count"
    if site.histogram.sum() != site.count * c:
        return "its histogram counts other elements than it saw"
    if site.absolute.max() > 2.0**site.exponent:
        return "its range is wider than its histogram"
    return _sums_fault(site)


def _sums_fault(site: SiteStatistics) -> str:
    """Why sums of x, x², x³ and x⁴ do not belong to the range; empty where they may."""
    peak = site.absolute
    for power, sums in enumerate(site.sums, 1):
        # sums of FP32 powers: each may be off by a rounding
        most = site.count * peak**power * (1 + _ROUNDED) + np.finfo(np.float32).tiny
        if (np.abs(sums) > most).any() or (power % 2 == 0 and (sums < 0).any()):
            return f"a sum of x^{power} is not of values in its range"
    return ""
