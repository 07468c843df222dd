"""Whether statistics that were read are what an observation left: digests, shapes, bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from qdeploy.calibrate.observer import BINS, SiteStatistics
from qdeploy.types import Array

_ROUNDED = 1e-3
_EXPONENTS = range(-40, 129)  # of FP32 values, and where a histogram of zeros starts


def digest_of(site: SiteStatistics) -> str:
    """16 hex digits of all that is kept of a site."""
    digest = hashlib.sha256(f"{site.count} {site.exponent}".encode())
    arrays = [site.minimum, site.maximum, site.sums, site.histogram]
    if site.tokens is not None:
        arrays += [site.tokens.count, site.tokens.energy, site.tokens.peak]
    if site.products is not None:
        arrays.append(site.products)
    if site.sensitivity is not None:
        arrays.append(np.array(site.sensitivity))
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()[:16]


def fault_of_all(
    sites: Mapping[str, SiteStatistics], digests: Mapping[str, str] | None, classes: int
) -> str:
    """What is wrong with statistics as a whole; empty for nothing.

    Args:
        digests: of each site; None where an earlier version wrote none.
        classes: of tokens.
    """
    for name, site in sites.items():
        if site.tokens is not None and site.tokens.count.size != classes:
            return f"{name} tells {site.tokens.count.size} classes of tokens apart, not {classes}"
    for name, digest in (digests or {}).items():
        if name not in sites:
            return f"{name} is missing"
        if digest_of(sites[name]) != digest:
            return f"the numbers of {name} are not those that were observed"
    return ""


def fault_of_site(site: SiteStatistics) -> str:
    """Why these numbers are of no observation; empty where they may be."""
    c = site.minimum.size
    shapes: list[tuple[str, Array, tuple[int, ...]]] = [("range", site.minimum, (c,))]
    shapes += [("range", site.maximum, (c,))]
    shapes += [("sums", site.sums, (4, c)), ("histogram", site.histogram, (BINS,))]
    if site.tokens is not None:
        t = site.tokens.count.size
        shapes += [("tokens", site.tokens.count, (t,))]
        shapes += [("tokens", a, (t, c)) for a in (site.tokens.energy, site.tokens.peak)]
    if site.products is not None:
        shapes.append(("products", site.products, (c, c)))
    if site.sensitivity is not None:
        shapes.append(("sensitivity", np.array(site.sensitivity), ()))
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
