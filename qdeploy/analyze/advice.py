"""What to do about the sites that cost: sentences with their reasons, from plan and figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from qdeploy.analyze.remedy import ENOUGH_DB, MOST_GROUPS
from qdeploy.calibrate.plan import Float, Grouped, PerTensor, Plan
from qdeploy.figures import decibels
from qdeploy.schemas.analysis import AnalyzedSite, Recommendation, SiteTreatment

# Kurtosis from which a site has "few large values"; a normal distribution has 3.
_TAILED = 6.0


def treatment_of(plan: Plan, tensor: str) -> SiteTreatment:
    """What `peg` does to a site: `groups` (K), `outlier_channels`, `prescaled` and `text`."""
    treatment = plan.treatment(tensor)
    scaled = isinstance(treatment, PerTensor) and bool(treatment.pre_quant_scale)
    text = "a pre-quantization scale per channel" if scaled else "one scale"
    if isinstance(treatment, Float):
        return {"groups": 0, "outlier_channels": [], "prescaled": False, "text": "float"}
    if not isinstance(treatment, Grouped):
        return {"groups": 1, "outlier_channels": [], "prescaled": scaled, "text": text}
    k, outliers = len(treatment.groups), list(treatment.outlier_channels)
    text = "one scale" if k == 1 else f"{k} groups"
    if outliers:
        text += f", {_count(len(outliers), 'channel')} in float"
    return {"groups": k, "outlier_channels": outliers, "prescaled": False, "text": text}


def recommend(sites: Mapping[str, AnalyzedSite]) -> list[Recommendation]:
    """Costly sites of one kind and one treatment in one sentence, the costliest first.

    Args:
        sites: entries of the report by tensor, with `cost` and `remedy` where they were measured.
            A site without a cost counts as costly where `peg` treats it.

    Returns:
        `text`, `sites` (names), `alone_db` (the least of them, or None).
    """
    joined: dict[tuple[str, str], list[AnalyzedSite]] = defaultdict(list)
    for site in sites.values():
        if is_costly(site):
            joined[site["kind"], _remedy(site)].append(site)
    groups = sorted(joined.items(), key=lambda group: _urgency(group[1]))
    return [
        {
            "text": _sentence(kind, text, members),
            "sites": [site["name"] for site in members],
            "alone_db": min((s["cost"]["alone_db"] for s in members if s["cost"]), default=None),
        }
        for (kind, text), members in groups
    ]


def _urgency(members: list[AnalyzedSite]) -> tuple[bool, float]:
    """Sort key: by what is left of the logits; without costs by the outlier channels' energy."""
    worst = _worst(members)
    if worst["cost"] is None:
        return True, -worst["outlier_energy"]
    return False, worst["cost"]["alone_db"]


def is_costly(site: AnalyzedSite) -> bool:
    """Whether a site needs another treatment than one scale: alone it spoils the logits, or without
    costs, `peg` treats it."""
    cost = site["cost"]
    if cost is None:
        treatment = site["treatment"]
        grouped = treatment["groups"] > 1 or treatment["outlier_channels"]
        return bool(grouped or treatment["prescaled"])
    return cost["alone_db"] < ENOUGH_DB


def _remedy(site: AnalyzedSite) -> str:
    if site["channels"] == 1:
        return "it has no channels to group: leave it in float"
    measured = site["remedy"]
    if measured is None:
        known = "" if site["cost"] is None else "what mends it was not measured; "
        return f"{known}peg: {site['treatment']['text']}"
    if measured["groups"] is not None:
        return f"K = {measured['groups']} suffices"
    if measured["peg_db"] >= ENOUGH_DB:
        return f"no K up to {MOST_GROUPS} suffices; peg does: {site['treatment']['text']}"
    return f"no K up to {MOST_GROUPS} suffices: leave it in float"


def _sentence(kind: str, text: str, members: list[AnalyzedSite]) -> str:
    layers = sorted({site["layer"] for site in members if site["layer"] is not None})
    subject = f"{kind}s" if len(members) > 1 else kind
    if layers:
        numbers = ", ".join(map(str, layers))
        subject += f" of {'layer' if len(layers) == 1 else 'layers'} {numbers}"
    worst = _worst(members)
    where = "at worst " if len(members) > 1 else ""
    sentence = f"{subject[0].upper()}{subject[1:]}: {where}{_reason(worst)}; {text}"
    if worst["cost"] is None:
        return sentence
    measured, before = worst["remedy"], worst["cost"]["alone_db"]
    after = None
    if measured and measured["groups"]:
        after = measured["sqnr_db"][str(measured["groups"])]
    elif measured and measured["peg_db"] >= ENOUGH_DB:
        after = measured["peg_db"]
    if after is not None:
        return f"{sentence} ({decibels(before)} dB alone, {decibels(after)} dB then)"
    return f"{sentence} ({decibels(before)} dB alone)"


def _worst(members: list[AnalyzedSite]) -> AnalyzedSite:
    """The site that every figure of a sentence is of: the costliest, or without costs the one whose
    outlier channels carry most."""
    costs = [site["cost"]["alone_db"] for site in members if site["cost"]]
    if len(costs) == len(members):
        return members[costs.index(min(costs))]
    return max(members, key=lambda site: site["outlier_energy"])


def _reason(worst: AnalyzedSite) -> str:
    """Why: few channels carry the energy, or elements spread over all of them do."""
    count, energy = worst["outlier_channel_count"], worst["outlier_energy"]
    if count and energy >= 0.1:
        verb = "carries" if count == 1 else "carry"
        reason = f"{_count(count, 'channel')} {verb} {_percent(energy)} of the energy"
        carrier = _main_carrier(worst)
        return f"{reason}, {carrier}" if carrier else reason
    ratio = worst["max_over_median_channel"]
    if ratio is not None and ratio >= 4:
        return f"the widest channel reaches {ratio:.0f} times the median one"
    if worst["kurtosis"] >= _TAILED:
        return f"few large values in every channel (kurtosis {worst['kurtosis']:.0f})"
    return "one scale is too coarse for what follows"


def _main_carrier(site: AnalyzedSite) -> str | None:
    """The class of token that holds most of that energy, where it is more than its share."""
    found = site["carriers"] or {}
    if not found:
        return None
    name, entry = max(found.items(), key=lambda item: item[1]["energy"])
    if entry["energy"] < 0.5 or entry["tokens"] > 0.5:
        return None
    return f"{_percent(entry['energy'])} of that on {name}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
