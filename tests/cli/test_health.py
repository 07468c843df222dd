"""The screen of `doctor`: sentences, commands that can be copied, nothing wider than 80 columns."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest

from qdeploy import api
from qdeploy.cli import main

COMMAND = (
    "/home/me/a folder/python -m pip uninstall -y a && /home/me/.venv/bin/python -m pip install -e "
    "'/home/me/a folder with blanks[gpu]' 'a-package-with-a-very-long-name-of-its-own<11'"
).replace("/home/me/a folder/", "'/home/me/a folder/'")
REMEDY = f"Type: {COMMAND} # on a machine with an NVIDIA GPU"


def report(**fields: Any) -> dict[str, Any]:
    return {
        "targets": {
            "ort-cuda": {"works": False, "detail": "onnxruntime 1.31 is built without "
                         "CUDAExecutionProvider.", "remedy": REMEDY},
            "ort-cpu": {"works": True, "detail": "onnxruntime 1.31, INT8 kernel X.", "remedy": ""},
        },
        "cpu": {"model": "Test CPU", "cores": 2, "AVX512-VNNI": True, "AVX-VNNI": False,
                "AMX-INT8": True, "AMX-BF16": False},
        "memory_mb": {"total": 16000.0, "usable": 7600.0},
        "gpu": {"found": False, "reason": "CUDA: no driver."},
        "python": "3.11.9",
        "versions": {},
        "notes": ["onnxruntime-tools is installed. Type: pip uninstall onnxruntime-tools"],
    } | fields  # fmt: skip


def said(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setattr(api, "doctor", lambda: found)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor"]) == 0
    return capsys.readouterr().out.splitlines()


def test_what_works_comes_first_and_then_what_does_not_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(report(), monkeypatch, capsys)
    assert max(map(len, lines)) < 80
    assert lines[:2] == [
        "These targets work here:",
        "  ort-cpu  onnxruntime 1.31, INT8 kernel X.",
    ]
    text = " ".join(" ".join(lines).split())
    assert text.index("These do not work:") < text.index(
        "ort-cuda: onnxruntime 1.31 is built without"
    )
    assert "Type (on a machine with an NVIDIA GPU):" in text
    for part in (
        "CPU Test CPU",
        "fast: this CPU multiplies 8-bit integers (AVX512-VNNI, AMX-INT8)",
        "2 can be used",
        "7.6 of 16.0 GB can be used",
        "none. CUDA: no driver.",
        "pip uninstall onnxruntime-tools",
    ):
        assert part in text
    assert "{" not in text and "True" not in text and "None" not in text


def test_what_is_to_be_typed_can_be_pasted_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(report(), monkeypatch, capsys)
    start = next(n for n, line in enumerate(lines) if line.endswith("NVIDIA GPU):")) + 1
    end = lines.index("", start)
    assert end - start > 2  # it is longer than a line
    words = ["bash", "-c", "\n".join(["set -- \\", *lines[start:end]]).replace("&&", "'&&'")
             + '\nprintf "%s\\n" "$@"']  # fmt: skip
    pasted = subprocess.run(words, capture_output=True, text=True, check=True)
    assert pasted.stdout.splitlines() == shlex.split(COMMAND)


def test_lines_hang_under_their_text_and_no_word_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    detail = "a reason " * 20 + "with-a-word-of-its-own-that-is-far-too-long-to-be-broken-anywhere"
    targets = {"x": {"works": True, "detail": detail, "remedy": ""}}
    lines = said(report(targets=targets), monkeypatch, capsys)
    assert lines[1].startswith("  x  a reason") and lines[2].startswith("     reason")
    assert set(detail.split()) <= set(" ".join(lines).split())


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (dict.fromkeys(("AVX512-VNNI", "AVX-VNNI", "AMX-INT8", "AMX-BF16"), False), "slow: this"),
        (dict.fromkeys(("AVX512-VNNI", "AVX-VNNI", "AMX-INT8", "AMX-BF16"), None), "not known"),
        ({"AMX-BF16": True}, "--rest-precision bf16"),
    ],
)
def test_features_in_words(
    flags: dict[str, Any],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = report(cpu=report()["cpu"] | flags)
    assert text in " ".join(" ".join(said(found, monkeypatch, capsys)).split())


def test_a_gpu_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = {"found": True, "name": "NVIDIA H100", "compute_capability": "9.0",
           "int8_tensor_cores": True, "memory_mb": 85000, "driver": 12040,
           "runtime": 12060}  # fmt: skip
    found = report(gpu=gpu, memory_mb={"total": None, "usable": None}, targets={}, notes=[])
    text = " ".join(" ".join(said(found, monkeypatch, capsys)).split())
    assert (
        "NVIDIA H100, 85 GB, compute capability 9.0 (with INT8 tensor cores), driver for CUDA "
        "12.4, runtime 12.6"
    ) in text
    assert "memory" not in text
