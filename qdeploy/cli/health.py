"""The result of `doctor`: what works, what does not and what to type, and what the machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qdeploy.cli import tables

if TYPE_CHECKING:
    from qdeploy.schemas.doctor import Cpu, FoundGpu, MachineReport, NoGpu

# Instructions that multiply 8-bit integers.
_INT8: Final = ("AVX512-VNNI", "AVX-VNNI", "AMX-INT8")


def show(report: MachineReport) -> None:
    """Print what `doctor` found."""
    targets = report["targets"]
    works = {name: found for name, found in targets.items() if found["works"]}
    builds = {n: found for n, found in targets.items() if n not in works and found.get("builds")}
    lacks = {n: found for n, found in targets.items() if n not in works and n not in builds}
    if works:
        tables.say("These targets work here:")
        tables.facts([(name, found["detail"]) for name, found in works.items()], indent="  ")
    if builds:
        tables.say(f"{chr(10) if works else ''}These build engines here, for other machines:")
        tables.facts([(name, found["detail"]) for name, found in builds.items()], indent="  ")
    if lacks:
        tables.say(f"{chr(10) if works or builds else ''}These do not work:")
        for name, found in lacks.items():
            _lacks(name, found["detail"], found["remedy"])
    tables.say("\nThis machine:")
    tables.facts(_machine(report), indent="  ")
    for note in report["notes"]:
        tables.say("")
        _advice(note, "")


def _lacks(name: str, detail: str, remedy: str) -> None:
    """A target, why it does not work, and what to do."""
    tables.wrapped(f"{name}: {detail}", indent="  ", hanging="    ")
    _advice(remedy, "    ")


def _advice(text: str, indent: str) -> None:
    """A text, and what it says to type on lines of its own, which can be pasted."""
    said, mark, command = text.partition("Type: ")
    if not mark:
        tables.wrapped(text, indent=indent, hanging=indent)
        return
    command, _, where = command.partition(" # ")
    place = f" ({where})" if where else ""
    tables.wrapped(f"{said}Type{place}:", indent=indent, hanging=indent)
    tables.pasted(command, indent=f"{indent}  ")


def _machine(report: MachineReport) -> list[tuple[str, str]]:
    cpu = report["cpu"]
    cores = cpu["cores"]
    rows = [("CPU", str(cpu["model"])), ("INT8", _int8(cpu)), ("BF16", _bf16(cpu["AMX-BF16"]))]
    rows.append(("threads", "not known" if cores is None else f"{cores} can be used"))
    usable, total = report["memory_mb"]["usable"], report["memory_mb"]["total"]
    if usable is not None and total is not None:
        rows.append(("memory", f"{usable / 1000:.1f} of {total / 1000:.1f} GB can be used"))
    rows.append(("GPU", _gpu(report["gpu"])))
    rows.append(("Python", str(report["python"])))
    return rows


def _int8(cpu: Cpu) -> str:
    known = {name: cpu[name] for name in _INT8}
    if any(known.values()):
        names = ", ".join(name for name, has in known.items() if has)
        return f"fast: this CPU multiplies 8-bit integers ({names})"
    if None in known.values():
        return "not known: nothing lists the instructions of this CPU"
    return (
        "slow: this CPU has neither VNNI nor AMX. Sums of products may then overflow 16 bits in "
        "ONNX Runtime: measure accuracy on the machine that will serve"
    )


def _bf16(known: bool | None) -> str:
    if known is None:
        return "not known"
    if known:
        return "fast (AMX-BF16): try --target openvino --rest-precision bf16"
    return "no instructions for it: keep the rest in f32"


def _gpu(found: FoundGpu | NoGpu) -> str:
    if found["found"] is False:
        return f"none. {found['reason']}"
    cores = "with" if found["int8_tensor_cores"] else "without"
    return (
        f"{found['name']}, {found['memory_mb'] / 1000:.0f} GB, compute capability "
        f"{found['compute_capability']} ({cores} INT8 tensor cores), driver for CUDA "
        f"{_cuda(found['driver'])}, runtime {_cuda(found['runtime'])}"
    )


def _cuda(version: int) -> str:
    """12040 is 12.4."""
    return f"{version // 1000}.{version % 1000 // 10}"
