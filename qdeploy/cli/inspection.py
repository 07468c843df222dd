"""The result of `inspect`: a summary, a row per layer, and with --verbose every site and GEMM."""

from __future__ import annotations

from pathlib import Path

from qdeploy.cli import choices, rules, tables
from qdeploy.cli.certificate import certificate
from qdeploy.commands import command, free_place, quoted
from qdeploy.figures import decibels, megabytes
from qdeploy.names import eight_bits, few, short_name
from qdeploy.schemas.certificate import Compiled, Int8, Processors
from qdeploy.schemas.inspection import (
    CompiledFile,
    FloatCause,
    InspectedEngine,
    InspectedFile,
    InspectedModel,
    Inspection,
    KeptStatistics,
    Layer,
    SiteLevel,
)
from qdeploy.schemas.manifest import Noise

_LINES = (
    "compiled",
    "estimate",
    "contract",
    "layers",
    "float",
    "int8",
    "noise",
    "planned_gemms",
    "other_products",
    "processors",
)
_STATISTICS = 3  # calibrations that the summary lists
_OPERATORS = 8
_LEAST = 0.0005  # share that is still 0.1 %


def show(found: Inspection, path: Path, *, verbose: bool = False) -> None:
    """Print what `inspect` found.

    Args:
        found: of `api.inspect`.
        path: what was looked at.
        verbose: every site, GEMM and broken rule, too.
    """
    if found["kind"] == "model":
        tables.facts(_model(found, path))
        if verbose:
            _rest(found)
        return
    if found["kind"] == "engine":
        tables.facts(_engine(found, path))
        if found["noise"] and found["noise"]["warning"]:
            tables.wrapped(f"Warning: {found['noise']['warning']}")
            if verbose:
                _noise(found["noise"])
    else:
        tables.facts(_file(found, path))
        if checked := found.get("contract"):
            rules.show(checked, verbose=verbose)
        if compiled := found.get("compiled"):
            _compiled(compiled, verbose=verbose)
    if layers := found.get("layers"):
        _layers(layers, eight_bits(str(found.get("strategy"))))
    _causes(found.get("float") or [])
    if verbose:
        _rest(found)
        checks: list[Int8 | Compiled | None] = [found.get("int8")]
        if found["kind"] == "engine":
            checks.append(found.get("compiled"))
        for check in checks:
            if check and check["gemms"]:
                certificate(check, str(found.get("strategy")))
    elif found["kind"] == "engine" and found["sites"]:
        tables.say("Every site and GEMM: add -v.")


def _compiled(found: CompiledFile, *, verbose: bool) -> None:
    """What a compiler makes of a file: products that are not in 8 bits, or all its reasons."""
    _causes(found["in_float"])
    if verbose:
        for reason in found["refused"]:
            tables.wrapped(f"  not compiled: {reason}")
        for name, shapes in found["shapes"].items():
            sizes = ", ".join("×".join(map(str, shape)) for shape in shapes)
            tables.say(f"  compiled for {name} of {sizes}")
        if found["products"] and found["products"]["gemms"]:
            certificate(found["products"], "")


def _rest(found: Inspection) -> None:
    """All that has no lines of its own."""
    tables.mapping({key: value for key, value in found.items() if key not in _LINES})


def _noise(found: Noise) -> None:
    """Every site that was found noisy, by its whole name, and the option that mends it."""
    tables.say("")
    for source in found["sources"]:
        level = source["alone_db"]
        text = "not finite" if level is None else f"{decibels(level)} dB"
        tables.say(f"  {text} alone  {source['site']}")
    if remedy := found["remedy"]:
        tables.say("The noisiest in float:")
        tables.say(f"  --float-sites {quoted(','.join(remedy['float_sites']))}")


def _engine(found: InspectedEngine, path: Path) -> list[tuple[str, str]]:
    dry, check = found.get("dry_run"), found.get("int8")
    rows = [
        (
            "engine",
            f"{found['strategy']} for {found['target']}, scope {found['scope']}; the rest "
            f"in {found['rest_precision']}" + ("; a dry run: nothing was compiled" if dry else ""),
        ),
        ("model", _head(found)),
        ("made from", _source(found)),
    ]
    if calibration := found.get("calibration"):
        text = f"{calibration['rows']} rows of {calibration['data']}"
        known = calibration.get("lengths") or {}
        # earlier versions did not tell
        if {"median", "p95", "max"} <= set(known) and "truncated_share" in calibration:
            text += f"; tokens of a row: {tables.lengths(calibration)}"
        rows.append(("calibrated on", text))
    planned = f"{_percent(found['planned_share'])} of all constant-weight FLOPs planned"
    if compiled := found.get("compiled"):
        launches = f"{compiled['launches']} kernels a run"
        rows.append(("compiled", f"{compiled['summary']}; {launches}"))
    if estimate := found.get("estimate"):
        rows.append(("estimate", tables.estimate(estimate).removeprefix("Estimate ")))
    if check or not compiled:
        text = str(check["summary"]) if check else f"{planned}; no kernel was looked at"
        rows.append((eight_bits(found["strategy"]), text))
    if (processors := found.get("processors")) is not None:
        rows.append(("processors", _processors(processors)))
    if (less := found["left_out"]) and (text := choices.left_out(less)):
        rows.append(("left out", text))
    if (noise := found["noise"]) is not None:
        rows.append(("noise", tables.noise(noise)))
    if found["noisiest"]:
        sites = [
            f"{short_name(site['site'])} {decibels(site['sqnr_db'])} dB"
            for site in found["noisiest"]
        ]
        rows.append(("noisiest sites", f"{', '.join(sites)} (expected)"))
    rows.append(("size", f"{megabytes(found['size_mb'])} MB"))
    rows.append(("measure it", command("eval", path, options={"simulate": dry})))
    if not dry:
        rows.append(("use it", command("predict", path, "FILE")))
    return rows


def _model(found: InspectedModel, path: Path) -> list[tuple[str, str]]:
    inputs = ", ".join(found["inputs"])
    rows = [
        ("model", _head(found)),
        ("made from", _source(found)),
        ("inputs", f"{inputs}, at most {found['max_length']} tokens"),
        ("size", f"{megabytes(found['size_mb'])} MB"),
        ("holds", _parts(found)),
    ]
    check = found["verification"]
    difference = None if check is None else check.get("max_abs_diff")
    if difference is not None:
        rows.append(("verified", f"outputs differ from torch's by {difference:.1e} at most"))
    rows.append(("statistics", _statistics(found["statistics"])))
    rows.append(("build", command("build", path, free_place(path, "peg"))))
    return rows


def _file(found: InspectedFile, path: Path) -> list[tuple[str, str]]:
    counts = [f"{count} {name}" for name, count in found["operators"].items()]
    more = len(counts) - _OPERATORS
    text = ", ".join(counts[:_OPERATORS]) + (f" and {more} other kinds" if more > 0 else "")
    inputs = ", ".join(f"{name} {shape}" for name, shape in found["inputs"].items())
    rows = [("file", str(path)), ("inputs", inputs), ("operators", text)]
    if check := found.get("int8"):
        rows.append(("INT8", f"on ONNX Runtime's CPU provider: {check['summary']}"))
    if (processors := found.get("processors")) is not None:
        rows.append(("processors", _processors(processors)))
    if compiled := found.get("compiled"):
        rows.append(("compiled", compiled["summary"]))
    if planned := found.get("planned_gemms_of_engine"):
        rows.append(
            (
                "engine",
                f"the {planned} planned GEMMs of {path.parent} are {found['int8']['planned']} "
                "products in this file: a GEMM whose channels have groups is a product for each "
                f"group. By GEMM: {command('inspect', path.parent)}",
            )
        )
    return rows


def _processors(found: Processors) -> str:
    """On which processors the numbers hold, and what that cost."""
    widened = found.get("widened")
    if not widened:
        return found["summary"]
    return (
        f"{found['summary']}; for it {widened['widened']} of {widened['columns']} columns have a "
        f"wider scale, +{decibels(widened['noise_db'])} dB of weight noise"
    )


def _head(found: InspectedEngine | InspectedModel) -> str:
    labels = found.get("labels") or []
    text = f"{found.get('model_type') or 'unknown type'}, {found.get('task')}"
    if labels and found.get("task") != "question-answering":  # its two are the ends of an answer
        names = ", ".join(labels[:6]) + (" …" if len(labels) > 6 else "")
        text += f", {len(labels)} classes: {names}"
    return text


def _source(found: InspectedEngine | InspectedModel) -> str:
    source = found["source"]
    return str(found.get("checkpoint") or source.get("id") or source["path"])


def _parts(found: InspectedModel) -> str:
    sizes = ", ".join(f"{r} × {c}" for r, c in found["embedding_tables"].values())
    count = len(found["embedding_tables"])
    noun = "table" if count == 1 else "tables"
    return (
        f"{found['gemms']} GEMMs, {found['sites']} sites that can be rounded, {count} embedding "
        f"{noun} ({sizes})"
    )


def _statistics(kept: list[KeptStatistics]) -> str:
    if not kept:
        return "none are kept; `qdeploy build` calibrates"
    texts = [
        f"{one['file']} (damaged: the next calibration makes it anew)"
        if one["damaged"]
        else f"{one['rows']} rows of {one['data']}, at most {one['max_length']} tokens"
        for one in kept
    ]
    return few(texts, _STATISTICS, "; ")


def _layers(rows: list[Layer], precision: str) -> None:
    """One row per layer: GEMMs in 8 bits, and how many sites are rounded in which way."""
    from rich.table import Table

    words = list(dict.fromkeys(word for row in rows for word in row["treatments"]))
    worst = [str(row["noisiest"]["site"]) for row in rows if row["noisiest"]]
    # where only inputs of GEMMs are rounded, the heading says so once
    suffix = ".input" if worst and all(name.endswith(".input") for name in worst) else ""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in ("layer", precision, "FLOPs", *words):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    if worst:
        table.add_column(f"  noisiest {'input' if suffix else 'site'}, expected dB")
    for row in rows:
        counts = f"{row['planned'] if row['executed'] is None else row['executed']}/{row['gemms']}"
        cells = [row["layer"], counts if row["gemms"] else "", _percent(row["flops_share"])]
        cells += [str(row["treatments"].get(word, "")) for word in words]
        if worst:
            cells.append(_noisiest(row["noisiest"], suffix))
        fell = row["executed"] is not None and row["executed"] < row["planned"]
        table.add_row(*cells, style="red" if fell else None)
    tables.say("")
    tables.show(table, width=tables.screen_width() - 1)
    if all(row["executed"] is None for row in rows):
        tables.say(f"{precision} counts GEMMs that are planned so; nothing ran.")


def _noisiest(found: SiteLevel | None, suffix: str) -> str:
    if not found:
        return ""
    name = short_name(str(found["site"])).removesuffix(suffix)
    return f"  {decibels(found['sqnr_db'])} {name.split(' ', 1)[-1]}"


def _causes(causes: list[FloatCause]) -> None:
    """What runs in float, by cause."""
    if causes:
        tables.say("")
    for cause in causes:
        what = "In float" if cause["planned"] == "float" else "FELL BACK to float"
        count = cause["count"]
        names = ", ".join(short_name(name) for name in cause["gemms"])
        more = count - len(cause["gemms"])
        tables.wrapped(
            f"{what}: {count} product{'s' if count > 1 else ''}, "
            f"{_percent(cause['flops_share'])} of the FLOPs ({cause['reason']}): {names}"
            + (f" and {more} more" if more > 0 else "")
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if not 0 < share < _LEAST else "<0.1 %"
