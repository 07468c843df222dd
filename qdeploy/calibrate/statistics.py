"""The statistics of a model: one `SiteStatistics` per site, on disk as one npz file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.calibrate.damage import digest_of, fault_of_all, fault_of_site
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.tokens import TokenStatistics
from qdeploy.data.lengths import RowLengths
from qdeploy.errors import StatisticsError
from qdeploy.files.damage import DAMAGE
from qdeploy.files.lease import leased_folder, sweep
from qdeploy.schemas.checked import check, decode
from qdeploy.schemas.reading import ReadingFields
from qdeploy.schemas.statistics import StatisticsOrigin
from qdeploy.types import Array

if TYPE_CHECKING:
    from numpy.lib.npyio import NpzFile

    from qdeploy.graph.structure import Structure

FORMAT = 3
# Second moments about the mean; those of earlier versions are about zero.
_COMOMENTS, _ABOUT_ZERO = "comoments", "products"
_REMEDY = (
    "Leave --statistics out, and the model is calibrated anew; or name the file that `qdeploy "
    "calibrate MODEL_DIR` prints."
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
        reading: how the rows are found again (`qdeploy.data.reading.Reading.to_json`), or None.
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
    reading: ReadingFields | None = None

    @property
    def lengths(self) -> RowLengths:
        """How long the rows were, and how many were cut."""
        return RowLengths(self.row_lengths, self.truncated, self.max_length)


@dataclass
class Statistics:
    """Statistics by tensor name, their origin, and the file that they were read from."""

    origin: Origin
    sites: dict[str, SiteStatistics]
    path: Path | None = None

    def save(self, path: Path) -> None:
        """Write one .npz, under a temporary name first."""
        digests = {name: digest_of(site) for name, site in self.sites.items()}
        origin = {"format": FORMAT, **asdict(self.origin), "digests": digests}
        arrays: dict[str, Array] = {"origin": np.array(json.dumps(origin))}
        for name, site in self.sites.items():
            arrays[f"{name}/range"] = np.stack([site.minimum, site.maximum])
            arrays[f"{name}/sums"] = site.sums
            arrays[f"{name}/histogram"] = site.histogram
            arrays[f"{name}/shape"] = np.array([site.count, site.exponent])
            if site.products is not None:  # symmetric: one half says it all
                arrays[f"{name}/{_COMOMENTS}"] = site.products[np.triu_indices(site.channels)]
            if site.sensitivity is not None:
                arrays[f"{name}/sensitivity"] = np.array(site.sensitivity)
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
            raise StatisticsError(f"{path} is not a file of statistics: it is no file. {_REMEDY}")
        try:
            # np.load leaves a file that it opened itself open when the archive is damaged
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                written = decode(str(arrays["origin"]).encode(), path, _REMEDY, StatisticsError)
                if isinstance(written, dict) and written.get("format") != FORMAT:
                    raise StatisticsError(
                        f"{path} was written by another version of qdeploy. {_REMEDY}"
                    )
                form = check(written, StatisticsOrigin, path, _REMEDY, StatisticsError)
                names = [k.removesuffix("/sums") for k in arrays.files if k.endswith("/sums")]
                sites = {name: _site(arrays, name) for name in names}
                earlier = [name for name in names if f"{name}/{_ABOUT_ZERO}" in arrays.files]
        except FileNotFoundError:
            raise StatisticsError(
                f"{path} does not exist. Make statistics with `qdeploy calibrate MODEL_DIR`."
            ) from None
        except PermissionError as error:
            raise StatisticsError(
                f"{path} cannot be read: {error.strerror}. Look at its permissions."
            ) from error
        except DAMAGE as error:
            raise StatisticsError(
                f"{path} is not a file of statistics ({error or type(error).__name__}). {_REMEDY}"
            ) from error
        origin = _origin_of(form)
        if fault := fault_of_all(sites, form.digests, len(origin.token_classes)):
            raise StatisticsError(f"{path} is damaged: {fault}. {_REMEDY}")
        for name in earlier:  # once their digests were held against them
            sites[name].products = _about_mean(sites[name])
        return cls(origin, sites, path)

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
                f"{self._called} belong to another model (model.onnx "
                f"{self.origin.model_sha256[:12]}…, and this one is {model_sha256[:12]}…). "
                f"{_REMEDY}"
            )

    @property
    def has_products(self) -> bool:
        """Whether second moments were gathered with it."""
        return any(site.products is not None for site in self.sites.values())

    @property
    def has_sensitivity(self) -> bool:
        """Whether the sensitivity of sites was measured with it."""
        return any(site.sensitivity is not None for site in self.sites.values())

    def take_sensitivity(self, other: Statistics | None) -> None:
        """Take over what was measured with other statistics of the same model and rows."""
        for name, site in ({} if other is None else other.sites).items():
            self.sites[name].sensitivity = site.sensitivity

    def require_sites(self, structure: Structure) -> None:
        """Refuse statistics that are not of every site of a model.

        Raises:
            StatisticsError: naming the first site that is missing or has other channels.
        """
        for site in structure.sites:
            found = self.sites.get(site.tensor)
            if found is None or found.channels != site.channels:
                has = "nothing" if found is None else f"{found.channels} channels"
                raise StatisticsError(
                    f"{self._called} do not fit this model: they hold {has} of {site.name}, which "
                    f"has {site.channels} channels. {_REMEDY}"
                )

    @property
    def _called(self) -> str:
        return "The statistics" if self.path is None else f"The statistics {self.path}"


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


def _site(arrays: NpzFile, name: str) -> SiteStatistics:
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
    products = None
    for key in (f"{name}/{_COMOMENTS}", f"{name}/{_ABOUT_ZERO}"):
        if key in arrays.files:
            products = _symmetric(arrays[key], minimum.size)
    sensitivity = None
    if f"{name}/sensitivity" in arrays.files:
        sensitivity = float(arrays[f"{name}/sensitivity"])
    found = SiteStatistics(
        count=count,
        minimum=minimum,
        maximum=maximum,
        sums=arrays[f"{name}/sums"],
        histogram=arrays[f"{name}/histogram"],
        exponent=exponent,
        tokens=tokens,
        products=products,
        sensitivity=sensitivity,
    )
    if fault := fault_of_site(found):
        raise ValueError(f"{name}: {fault}")
    return found


def _about_mean(site: SiteStatistics) -> Array | None:
    """Sums of (x − mean)(x − mean)ᵀ, of those of x xᵀ; FP32 [C, C]."""
    if site.products is None:
        return None
    whole: Array = site.products - site.count * np.outer(site.mean, site.mean)
    return whole.astype(np.float32)


def _symmetric(half: Array, channels: int) -> Array:
    """The matrix [C, C] of an upper triangle.

    Raises:
        ValueError: it has another size.
    """
    found = np.zeros((channels, channels), half.dtype)
    found[np.triu_indices(channels)] = half
    mirrored: Array = found + np.triu(found, 1).T
    return mirrored


def _origin_of(form: StatisticsOrigin) -> Origin:
    return Origin(
        model_sha256=form.model_sha256,
        data=form.data,
        data_hash=form.data_hash,
        rows=form.rows,
        seed=form.seed,
        max_length=form.max_length,
        row_hashes=tuple(form.row_hashes),
        token_classes=tuple(form.token_classes),
        row_lengths=tuple(form.row_lengths),
        truncated=form.truncated,
        reading=form.reading,
    )
