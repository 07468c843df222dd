"""The result of `build`: what was built, what it does to the logits, and how to measure it."""

from __future__ import annotations

import os
from pathlib import Path

from qdeploy.cli import choices, tables
from qdeploy.figures import milliseconds
from qdeploy.names import eight_bits
from qdeploy.schemas.autotune import Forms
from qdeploy.schemas.built import BuiltForRows
from qdeploy.text import beside


def show(manifest: BuiltForRows, directory: Path, model: Path) -> None:
    """The result of `build`.

    Args:
        manifest: what `api.build` returned.
        directory: of the engine.
        model: directory that it was built from.
    """
    names = (manifest.get(key) for key in ("strategy", "scope", "target"))
    tables.say(f"{directory}: {', '.join(str(name) for name in names)}")
    if (calibration := manifest.get("calibration")) and calibration.get("lengths"):
        rows = f"{calibration['rows']} rows of {calibration['data']}"
        tables.wrapped(f"calibrated on {rows}; tokens of a row: {tables.lengths(calibration)}")
    if manifest.get("auto"):
        tables.wrapped(choices.choice(manifest["auto"]))
    if manifest.get("search"):
        choices.search(manifest["search"])
    if manifest.get("forms"):
        tables.wrapped(_forms(manifest["forms"]))
    if compiled := manifest.get("compiled"):
        tables.wrapped(tables.int8(compiled, manifest["strategy"]))
    if found := manifest.get("estimate"):
        tables.wrapped(tables.estimate(found))
    if (check := manifest.get("int8")) is not None:
        tables.wrapped(tables.int8(check, manifest["strategy"]))
    elif manifest.get("dry_run") and not compiled:
        share = manifest["plan"]["planned_share"]
        name = eight_bits(manifest["strategy"])
        text = f"{name}: {share} of all constant-weight FLOPs planned; nothing ran (dry run)"
        tables.wrapped(text)
    if (less := manifest.get("left_out")) and (text := choices.left_out(less)):
        tables.wrapped(f"{text[0].upper()}{text[1:]}")
    if (noise := manifest.get("noise")) is not None:
        tables.wrapped(tables.noise(noise))
    if manifest.get("label_fault"):
        tables.wrapped(f"No accuracy can be measured on these rows: {manifest['label_fault']}")
    _measure(manifest, directory, model)


def _measure(manifest: BuiltForRows, directory: Path, model: Path) -> None:
    """The command that measures an engine, as far as that can be done here."""
    options: dict[str, object] = {}
    base = beside(directory, "fp32")
    taken = os.path.lexists(base) and not (base / "qdeploy.json").is_file()
    if manifest.get("dry_run"):
        options["simulate"] = True
    elif not taken:
        options["baseline"] = "fp32"
        home = Path(os.path.abspath(model)).parent
        if model.name in ("", "..") or home not in (
            Path(os.path.abspath(directory)).parent,
            Path.cwd(),
        ):
            options["model"] = model  # eval looks for it in these two places
    if manifest.get("label_fault") and not manifest.get("dry_run"):
        options["no_accuracy"] = True
    elsewhere = manifest.get("compiled") and not manifest.get("int8")
    note = "on a machine with a GPU that it was compiled for"
    only = note if elsewhere and not manifest.get("dry_run") else ""
    tables.following("eval", directory, options=options, note=only)
    if taken and not manifest.get("dry_run"):
        tables.say(f"      (move {base} away, and --baseline fp32 compares with FP32)")


def _forms(forms: Forms) -> str:
    """What factors and groups cost, as estimated and as measured."""
    if "p50_ms" in forms:
        batch, tokens = forms["shape"]
        times = ", ".join(f"{name} {milliseconds(ms)} ms" for name, ms in forms["p50_ms"].items())
        return f"form: {forms['kept']}, fastest of {times} at {batch} × {tokens}"
    us = forms["estimated_us"]
    return (
        f"form: {us['kept']:.0f} µs beyond plain INT8 by estimate for an {forms['gpu']} (factors "
        f"{us['factors']:.0f}, groups {us['groups']:.0f}); a build where the target works measures"
    )
