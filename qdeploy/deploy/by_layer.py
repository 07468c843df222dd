"""Sites and products by layer, told from their names: one row a layer, and causes of float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from qdeploy.calibrate.plan import FLOAT, Grouped, PerTensor, Treatment
from qdeploy.names import place_of
from qdeploy.schemas.certificate import CertifiedGemm
from qdeploy.schemas.fields import Precision
from qdeploy.schemas.inspection import (
    FloatCause,
    Layer,
    LayerProducts,
    LayerSites,
    RoundedSite,
    SiteLevel,
)

BEFORE, BEHIND, ALL, OTHER = "embeddings", "head", "all", "other"
_SHOWN = 3  # names of what shares a cause


def rounding_of(treatment: Treatment) -> str:
    """What happens to a site, as one of a few words: a column of a table.

    >>> from qdeploy.calibrate.plan import Dynamic
    >>> rounding_of(Dynamic())
    'run time'
    """
    if isinstance(treatment, PerTensor):
        return "pre-scaled" if treatment.pre_quant_scale else "1 scale"
    return {"float": "float", "dynamic": "run time", "grouped": "groups"}[treatment.kind]


def treatment_text(treatment: Treatment) -> str:
    """What happens to a site, with its figures."""
    if isinstance(treatment, Grouped):
        count, channels = len(treatment.groups), len(treatment.outlier_channels)
        text = f"{count} groups" if count > 1 else "1 group"
        return f"{text}, {channels} channels float" if channels else text
    known = {"1 scale": "one scale", "pre-scaled": "one scale, pre-scaled"}
    word = rounding_of(treatment)
    return known.get(word, "scale at run time" if word == "run time" else word)


def by_layer(
    sites: Sequence[RoundedSite],
    gemms: Mapping[str, CertifiedGemm],
    *,
    ran: bool,
    others: Collection[str] = (),
) -> list[Layer]:
    """One row a layer, in the order of the graph.

    Args:
        sites: {"site", "rounding", "sqnr_db"} of a plan, in the order of the graph; empty where
            there is none.
        gemms: products with a constant operand by name, as `certificate.tally` has them, in the
            order of the graph.
        ran: whether kernels were looked at; else what was planned is all there is.
        others: those of `gemms` whose place in the graph is not known.

    Returns:
        [{"layer": its number as text, "embeddings" before the first, "head" behind the last,
        "all" where no name tells, or "other"; "gemms", "planned" and "executed" (None unless
        `ran`) of products in 8 bits; "flops_share", "time_share" (None without times);
        "treatments": {word of `rounding_of`: sites}; "noisiest": {"site", "sqnr_db"} or None}].
    """
    labels = _labels([str(site["site"]) for site in sites])
    labels |= _labels([name for name in gemms if name not in others])
    for name in others:
        number = place_of(name)[0]
        labels[name] = OTHER if number is None else str(number)
    known = {label for label in labels.values() if label not in (BEFORE, BEHIND, ALL, OTHER)}
    order = [BEFORE, ALL, *sorted(known, key=int), BEHIND, OTHER]
    rows: list[Layer] = []
    for label in order:
        inside = [site for site in sites if labels[str(site["site"])] == label]
        products = [gemm for name, gemm in gemms.items() if labels[name] == label]
        if inside or products:
            rows.append({"layer": label, **_products(products, ran=ran), **_sites(inside)})
    return rows


def _labels(names: Sequence[str]) -> dict[str, str]:
    """The layer of each of some names, which stand in the order of the graph."""
    numbers = [place_of(name)[0] for name in names]
    last = max((at for at, number in enumerate(numbers) if number is not None), default=None)
    found = {}
    for at, (name, number) in enumerate(zip(names, numbers, strict=True)):
        if number is not None:
            found[name] = str(number)
        else:
            found[name] = ALL if last is None else BEFORE if at < last else BEHIND
    return found


def _products(gemms: Sequence[CertifiedGemm], *, ran: bool) -> LayerProducts:
    planned = [gemm for gemm in gemms if gemm["planned"] != FLOAT]
    times = [gemm["time_share"] for gemm in gemms if gemm["time_share"] is not None]
    return {
        "gemms": len(gemms),
        "planned": len(planned),
        "executed": sum(not gemm["reason"] for gemm in planned) if ran else None,
        "flops_share": round(sum(gemm["flops_share"] for gemm in gemms), 6),
        "time_share": round(sum(times), 6) if times else None,
    }


def _sites(sites: Sequence[RoundedSite]) -> LayerSites:
    treatments = Counter(str(site["rounding"]) for site in sites)
    worst = noisiest(sites, 1)
    return {"treatments": dict(treatments.most_common()), "noisiest": worst[0] if worst else None}


def noisiest(sites: Iterable[RoundedSite], most: int) -> list[SiteLevel]:
    """The sites of least expected SQNR, noisiest first: [{"site", "sqnr_db"}]."""
    known: list[SiteLevel] = [
        {"site": site["site"], "sqnr_db": site["sqnr_db"]}
        for site in sites
        if site["sqnr_db"] is not None
    ]
    return sorted(known, key=lambda site: site["sqnr_db"])[:most]


def causes_of_float(gemms: Mapping[str, CertifiedGemm]) -> list[FloatCause]:
    """Products that do not run in 8 bits, by cause, the largest share of FLOPs first.

    Returns:
        [{"planned", "reason", "count", "flops_share", "gemms": the first names}].
    """
    found: dict[tuple[Precision, str], list[str]] = {}
    for name, gemm in gemms.items():
        if gemm["reason"] or gemm["planned"] == FLOAT:
            found.setdefault((gemm["planned"], gemm["reason"]), []).append(name)
    causes: list[FloatCause] = [
        {
            "planned": planned,
            "reason": reason,
            "count": len(names),
            "flops_share": round(sum(gemms[name]["flops_share"] for name in names), 6),
            "gemms": names[:_SHOWN],
        }
        for (planned, reason), names in found.items()
    ]
    return sorted(causes, key=lambda cause: -cause["flops_share"])
