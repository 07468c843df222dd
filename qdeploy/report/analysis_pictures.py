"""The pictures of `qdeploy analyze`: heat map, kurtosis by depth, levels in use."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from qdeploy.names import short_name
from qdeploy.report.pictures import Draw, as_png, heat_map, levels, lines, picture_folder
from qdeploy.schemas.analysis import Analysis, AnalyzedSite
from qdeploy.text import file_name

NARROW = 4.2  # inches: height of a drawing for a telephone
# What to read from each picture, by the first word of its name.
_CAPTIONS = {
    "heat_map": "Bright columns are outlier channels. Those that are bright at every depth are the "
    "same channels of the residual stream.",
    "kurtosis": "A normal distribution has 3. Far above it a few values take the range, and one "
    "scale rounds all others coarsely.",
    "levels": "8 bits have 255 levels: the more of them are used, the finer the rounding.",
}


def caption_of(name: str) -> str:
    """What to read from a picture; of several of one kind also which site it is of."""
    kind, _, site = name.partition(".")
    return f"{short_name(site)}. {_CAPTIONS[kind]}" if site else _CAPTIONS[kind]


def pictures(report: Analysis) -> dict[str, tuple[Draw, str]]:
    """Name → drawing and what it shows."""
    found: dict[str, tuple[Draw, str]] = {}
    if drawn := report["heat_map"]:
        values = np.log10(np.maximum(np.array(drawn["values"]), 0.1)).tolist()
        rows = ["embeddings" if n is None else f"layer {n}" for n in drawn["layers"]]
        title = f"{drawn['kind']}s: largest |x| of each channel over the median channel's"
        found["heat_map"] = (heat_map(values, rows, "log10 of the ratio", title), title)
    if series := _by_depth(report["sites"]):
        title = "Kurtosis by depth"
        draw = lines(series, "depth (0: embeddings)", "kurtosis", title, log=True)
        found["kurtosis"] = (draw, title)
    for site in report["sites"]:
        if site["levels"]:
            before, after = site["levels"]["before"], site["levels"]["after"]
            titles = (
                f"one scale: as if {before['used']:.0f} levels",
                f"peg ({site['treatment']['text']}): {after['used']:.0f} levels",
            )
            draw = levels(before["counts"], after["counts"], titles)
            found[f"levels.{site['name']}"] = (
                draw,
                f"Levels that {site['name']} uses, under one scale and under its treatment",
            )
    return found


def _by_depth(sites: list[AnalyzedSite]) -> dict[str, tuple[list[float], list[float]]]:
    """Kurtosis of the residual stream's sites, a line per kind and place within a layer."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    met: Counter[tuple[str, int]] = Counter()
    several = {
        kind
        for (kind, depth), n in Counter((s["kind"], s["depth"]) for s in sites).items()
        if n > 1 and depth
    }
    for site in sites:
        kind, depth = site["kind"], site["depth"]
        if site["stream"] and site["kurtosis"] > 0:
            met[kind, depth] += 1
            place = f", number {met[kind, depth]} of a layer" if kind in several else ""
            x, y = series.setdefault(f"{kind}{place}", ([], []))
            x.append(depth)
            y.append(site["kurtosis"])
    return series


def write_pngs(report: Analysis, folder: Path) -> list[Path]:
    """Every picture as a PNG in a folder, which is made where it is missing.

    Raises:
        OutputError: it cannot be written.
    """
    picture_folder(folder)
    written = []
    for name, (draw, _) in pictures(report).items():
        path = folder / f"{file_name(name)}.png"
        as_png(draw, path)
        written.append(path)
    return written
