"""Which instructions a processor has."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdeploy.machine import processor
from qdeploy.machine.processor import CALLED, EXACT, INSTRUCTION_SETS, best_of, flags_of

X86, ARM = "x86_64", "aarch64"


@pytest.mark.parametrize(
    ("flags", "machine", "best"),
    [
        ("sse4_1", X86, "other"),
        ("avx avx2 fma", X86, "avx2"),
        ("avx2 avx512f avx512bw", X86, "avx512"),
        ("avx2 avx_vnni", X86, "avx_vnni"),
        ("avx2 avx512bw avx512_vnni", X86, "avx512_vnni"),
        ("avx2 avx512bw avx512_vnni amx_int8", X86, "amx_int8"),
        ("fp asimd", ARM, "arm64"),
        ("fp asimd asimddp", ARM, "arm64_dotprod"),
        ("fp asimd asimddp i8mm", "arm64", "arm64_i8mm"),
    ],
)
def test_the_best_instructions_are_told_from_flags(flags: str, machine: str, best: str) -> None:
    assert best_of(frozenset(flags.split()), machine) == best


def test_every_instruction_set_has_a_name_and_only_pairs_in_16_bits_are_not_exact() -> None:
    assert set(CALLED) == set(INSTRUCTION_SETS)
    assert set(INSTRUCTION_SETS) - set(EXACT) == {"avx2", "avx512", "other"}


def _asks(monkeypatch: pytest.MonkeyPatch, **has: bool) -> None:
    monkeypatch.setattr(processor, "_asked", lambda: has)


def test_flags_are_those_of_linux_where_nothing_contradicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\n")
    _asks(monkeypatch, avx2=True, avx512bw=False)
    assert flags_of(path) == {"fpu", "avx2", "avx_vnni"}
    path.write_text("Features\t: fp asimd asimddp\n")
    _asks(monkeypatch, asimddp=True)
    assert flags_of(path) == {"fp", "asimd", "asimddp"}


def test_an_emulator_that_shows_the_flags_of_its_machine_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("flags : avx2 avx512bw avx512_vnni amx_int8\n")
    _asks(monkeypatch, avx2=True, avx512bw=False, avx512_vnni=False)
    assert flags_of(path) == {"avx2"}


def test_without_linux_the_processor_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_apples", frozenset)
    _asks(monkeypatch, avx2=True, avx512_vnni=False)
    assert flags_of(tmp_path / "none") == {"avx2"}


def test_this_machine_has_instructions_that_numpy_confirms() -> None:
    assert processor.instruction_set() in INSTRUCTION_SETS
    assert processor._asked()  # NumPy's names are those that are looked for here
