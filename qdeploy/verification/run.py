"""`qdeploy verify`: an engine is held against what stands in its directory, where it serves."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.processors import holds_here
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import GateError, ModelError, QDeployError, QDeployWarning, TargetError
from qdeploy.files.artifact import SIGNATURE, read_manifest
from qdeploy.machine.processor import CALLED, instruction_set
from qdeploy.machine.threads import check_threads, usable_cores
from qdeploy.options import given_or
from qdeploy.schemas.manifest import EngineManifest
from qdeploy.schemas.verification import Check, CheckName, State, Verified
from qdeploy.types import PathLike
from qdeploy.verification.kernels import kernel_check
from qdeploy.verification.latency import latency_note, reported_of
from qdeploy.verification.numbers import numbers_check, tokenizer_check
from qdeploy.verification.options import VerifyOptions
from qdeploy.verification.whole import EARLIER, faults_of, named

OK: Final = "ok"
FAILED: Final = "failed"
UNKNOWN: Final = "not checked"
# What to do where a check failed that does not say it itself.
_NEXT: Mapping[CheckName, str] = {
    "files": "Take the directory anew from where it was built, or build the engine again.",
    "signature": "Take the engine anew from who signed it, or name the signer that you expect.",
    "tokenizer": "Take the directory anew from where it was built, or build the engine again.",
    "processor": "Build the engine again on this machine.",
    "numbers": "Install the versions of the build (bom.cdx.json), or build the engine here.",
    "kernels": "Install the versions of the build (bom.cdx.json), or build the engine here.",
}
_AFTER: tuple[CheckName, ...] = ("tokenizer", "processor", "numbers", "kernels", "latency")


def verify_engine(
    engine_dir: PathLike, options: VerifyOptions | None = None, **fields: Any
) -> Verified:
    """Check an engine directory; see `qdeploy.api.verify`.

    Raises:
        GateError: a check failed; its attribute `report` is the whole result.
    """
    started = time.monotonic()
    asked = given_or(VerifyOptions, options, fields)
    directory = Path(engine_dir)
    if asked.report is not None:
        reported_of(asked.report)  # refused before the work
    found = _checked(directory, asked)
    found["seconds"] = round(time.monotonic() - started, 2)
    failed = [check for check in found["checks"] if check["state"] == FAILED]
    if failed:
        first = failed[0]
        more = f" ({len(failed)} checks failed)" if len(failed) > 1 else ""
        next_step = "" if _says_it(first["text"]) else f" {_NEXT[first['name']]}"
        raise GateError(f"{directory}: {first['name']}: {first['text']}.{more}{next_step}", found)
    return found


def _says_it(text: str) -> bool:
    """Whether a sentence says already what to do next."""
    return ". " in text


def _checked(directory: Path, asked: VerifyOptions) -> Verified:
    faults, text = faults_of(directory)
    found: Verified = {
        "engine": str(directory),
        "target": None,
        "ok": True,
        "checks": [_check("files", FAILED if faults else OK, named(faults) or text)],
        "numbers": None,
        "latency": None,
        "seconds": 0.0,
    }
    found["checks"].append(_signature(directory, asked))
    if any(check["state"] == FAILED for check in found["checks"]):
        # what is not the engine that was built is not loaded into a runtime
        why = "the engine is not as it was built" if faults else "the signature does not hold"
        rest = [_check(name, UNKNOWN, why) for name in _AFTER]
        return {**found, "ok": False, "checks": [*found["checks"], *rest]}
    manifest = read_manifest(directory, "engine")
    found["target"] = manifest["target"]
    found["checks"].append(tokenizer_check(directory))
    found["checks"].append(_processor(directory, manifest))
    _run(directory, manifest, asked, found)
    found["ok"] = all(check["state"] != FAILED for check in found["checks"])
    return found


def _check(name: CheckName, state: State, text: str) -> Check:
    return {"name": name, "state": state, "text": text}


def _signature(directory: Path, asked: VerifyOptions) -> Check:
    """Whether the engine is signed by whom it should be."""
    wanted = asked.public_key is not None or asked.chain or asked.identity is not None
    there = (directory / SIGNATURE).is_file()
    if not wanted:
        text = "signed; --public-key FILE says by whom" if there else "the engine is not signed"
        return _check("signature", UNKNOWN, text)
    if not there:
        return _check("signature", FAILED, f"the engine is not signed: no {SIGNATURE}")
    from qdeploy.verification.signature import signature_fault

    fault = signature_fault(directory, asked)
    return _check("signature", FAILED if fault else OK, fault or "of the key that was named")


def _run(directory: Path, manifest: EngineManifest, asked: VerifyOptions, found: Verified) -> None:
    """The checks that run the engine."""
    reported = None if asked.report is None else reported_of(asked.report)
    threads = asked.threads
    if threads is None and reported is not None:
        threads = min(reported["protocol"]["threads"], usable_cores())
    reason = _cannot_run(manifest)
    engine: Engine | None = None
    state: State = UNKNOWN
    if not reason:
        try:
            with warnings.catch_warnings():  # of the processor, which is a check of its own
                warnings.simplefilter("ignore", QDeployWarning)
                engine = open_engine(directory, threads=check_threads(threads))
        except TargetError as error:
            reason = str(error)
        except QDeployError as error:
            reason, state = str(error), FAILED
    if engine is None:
        last = [_check("numbers", state, reason.rstrip("."))]
        last += [_check(name, UNKNOWN, "nothing ran") for name in ("kernels", "latency")]
        found["checks"] += last
        return
    check, found["numbers"] = _guarded("numbers", lambda: numbers_check(directory, engine))
    found["checks"].append(check)
    check, _ = _guarded("kernels", lambda: kernel_check(directory, engine))
    found["checks"].append(check)
    check, found["latency"] = _guarded("latency", lambda: latency_note(manifest, engine, reported))
    found["checks"].append(check)


def _cannot_run(manifest: EngineManifest) -> str:
    """Why an engine runs nowhere; empty where it does."""
    return "a dry run: nothing was compiled, and nothing ran" if manifest.get("dry_run") else ""


def _guarded(name: CheckName, run: Callable[[], tuple[Check, Any]]) -> tuple[Check, Any]:
    """A check, of which an error of ours is a failure."""
    try:
        return run()
    except QDeployError as error:
        return _check(name, FAILED, str(error).rstrip(".")), None


def _processor(directory: Path, manifest: EngineManifest) -> Check:
    """Whether the numbers of the certificate hold on the processor that is here."""
    try:
        found = read_certificate(directory).get("processors")
    except ModelError as error:
        return _check("processor", FAILED, str(error).rstrip("."))
    if found is None:
        target = TARGETS.get(manifest["target"])
        ours = target is not None and not target.on_gpu
        text = f"the certificate names none: {EARLIER}" if ours else "the engine is of a GPU"
        return _check("processor", UNKNOWN, text)
    if (warning := holds_here(found)) is not None:
        return _check("processor", FAILED, warning.rstrip("."))
    here = CALLED[instruction_set()]
    if found["proved"]:
        return _check("processor", OK, f"{here}; INT8 sums are proved to be the same on all")
    text = f"{here}, which adds as that of the build ({CALLED[found['made_on']]})"
    return _check("processor", OK, text)
