"""Kernels that run here, against the certificate of the build."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from qdeploy.deploy.certificate import check_int8, probe_feeds, read_certificate
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.ort.events import INT8_KERNELS
from qdeploy.deploy.tally import name_of
from qdeploy.figures import counted, percent
from qdeploy.files.artifact import read_manifest
from qdeploy.names import few, short_name
from qdeploy.schemas.certificate import Certificate, Int8
from qdeploy.schemas.verification import Check, State
from qdeploy.types import Array

_NAMED = 3


def kernel_check(directory: Path, engine: Engine) -> tuple[Check, None]:
    """Whether as many GEMMs run in 8 bits as at build.

    Where the packages are not installed that read the graph that ran (a machine that only runs
    engines), kernels are counted by their names in the profile of a run.

    Raises:
        ModelError: the certificate is damaged.
    """
    certificate = read_certificate(directory)
    built = certificate.get("int8") or certificate.get("compiled")
    if built is None:
        return _check("not checked", "nothing ran at build, and the certificate has no kernels")
    if not built["planned"]:
        return _check("not checked", "no GEMM is planned in 8 bits")
    manifest = read_manifest(directory, "engine")
    shapes = (manifest.get("builder") or {}).get("shapes") or {}
    rows, tokens = shapes.get("min") or (1, min(16, manifest["max_length"]))
    feeds = probe_feeds(manifest["inputs"], batch=rows, sequence=tokens)
    if any(importlib.util.find_spec(package) is None for package in engine.proof_packages):
        return _counted(engine, feeds, certificate)
    return _traced(check_int8(directory, engine, feeds), built)


def _traced(found: Int8, built: Int8) -> tuple[Check, None]:
    """Each planned GEMM, by what its lowering left in the graph that ran."""
    name = name_of(built)
    known = {fallback["site"] for fallback in built["fallbacks"]}
    lost = [fallback for fallback in found["fallbacks"] if fallback["site"] not in known]
    if not lost:
        return _check(
            "ok",
            f"{found['executed']} of {found['planned']} planned GEMMs ran in {name}, "
            f"{percent(found['flops_share'])} of all constant-weight FLOPs, as at build",
        )
    named = [
        f"{short_name(entry['site'])} ran as {entry['kernel']} ({entry['reason']})"
        for entry in lost
    ]
    return _check(
        "failed",
        f"{counted(len(lost), 'GEMM')} that ran in {name} at build did not here: "
        f"{few(named, _NAMED, '; ')}",
    )


def _counted(
    engine: Engine, feeds: dict[str, Array], certificate: Certificate
) -> tuple[Check, None]:
    """Calls of integer kernels of a run, as many as at build."""
    int8 = certificate.get("int8")
    stored = int8.get("kernels", {}) if int8 else {}
    wanted = sum(calls for kernel, calls in stored.items() if kernel in INT8_KERNELS)
    missing = ", ".join(engine.proof_packages)
    if not wanted:
        return _check("not checked", f"this target needs {missing} for it, which is not installed")
    found = sum(k.calls for k in engine.profile(feeds, 1) if k.kernel in INT8_KERNELS)
    text = f"{found} calls of INT8 kernels in a run, {wanted} at build"
    return _check("ok" if found >= wanted else "failed", text)


def _check(state: State, text: str) -> tuple[Check, None]:
    return {"name": "kernels", "state": state, "text": text}, None
