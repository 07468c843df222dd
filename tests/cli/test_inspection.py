"""The screens of `inspect`: a summary and a row per layer within 80 columns, all with -v."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from qdeploy import api
from qdeploy.cli import cli, main

WIDTH = 80
SITES = [f"bert.encoder.layer.{n}.{part}" for n in range(12) for part in (
    "attention.self.query.input", "attention.output.dense.input", "intermediate.dense.input",
    "output.dense.input",
)]  # fmt: skip


def gemm(**fields: Any) -> dict[str, Any]:
    return {
        "planned": "int8",
        "kernel": "MatMulIntegerToFloat",
        "flops_share": 0.25,
        "time_share": 0.5,
        "reason": "",
    } | fields


def engine(**fields: Any) -> dict[str, Any]:
    """What `inspect` gives of an engine as deep as BERT-base."""
    layers = [
        {
            "layer": str(n),
            "gemms": 6,
            "planned": 6,
            "executed": 6,
            "flops_share": 0.0833,
            "time_share": 0.05,
            "treatments": {"1 scale": 2, "pre-scaled": 1, "groups": 1, "float": 2},
            "noisiest": {
                "site": f"bert.encoder.layer.{n}.attention.output.dense.input",
                "sqnr_db": 30.0 + n,
            },
        }
        for n in range(12)
    ]
    sites = [
        {"site": name, "treatment": "per_tensor", "treatment_text": "one scale", "sqnr_db": 33.0,
         "reason": "33.0 dB"}
        for name in SITES
    ]  # fmt: skip
    summary = (
        "99.99 % of all constant-weight FLOPs planned, 72/72 planned GEMMs ran in INT8 (100 % of "
        "the planned FLOPs), INT8 share of all 99.99 %, 80.1 % of kernel time"
    )
    return {
        "kind": "engine",
        "model_type": "bert",
        "task": "sequence-classification",
        "labels": ["entailment", "not_entailment"],
        "max_length": 512,
        "inputs": ["input_ids", "attention_mask"],
        "source": {"path": "model", "sha256": "0" * 64},
        "checkpoint": "bert-base-qnli",
        "strategy": "peg",
        "target": "ort-cpu",
        "scope": "gemm",
        "rest_precision": "f32",
        "options": {},
        "dry_run": False,
        "noise": None,
        "left_out": None,
        "calibration": {
            "data": "qnli-mini", "rows": 128, "truncated": 0, "truncated_share": 0.0,
            "lengths": {"median": 40, "p95": 90, "max": 128},
        },
        "size_mb": 110.2,
        "planned_share": 0.9999,
        "noisiest": [{"site": SITES[n], "sqnr_db": 30.0 + n} for n in range(3)],
        "layers": layers,
        "float": [],
        "sites": sites,
        "planned_gemms": {},
        "other_products": {},
        "int8": {"planned": 72, "executed": 72, "summary": summary, "gemms": {"L": gemm()}},
    } | fields  # fmt: skip


def screen(
    found: dict[str, Any],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[str]:
    monkeypatch.setattr(api, "inspect", lambda *_, **__: found)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert main(["inspect", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_summary_of_an_engine_and_a_row_per_layer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = screen(engine(), ["my engine"], monkeypatch, capsys)
    assert max(map(len, lines)) < WIDTH
    summary = lines[: lines.index("")]
    assert len(summary) <= 15
    text = " ".join(" ".join(summary).split())
    for part in (
        "peg for ort-cpu, scope gemm",
        "2 classes: entailment, not_entailment",
        "bert-base-qnli",
        "128 rows of qnli-mini",
        "INT8 share of all 99.99 %",
        "L0 attn.query.input 30.0 dB",
        "110.2 MB",
    ):
        assert part in text
    table = lines[lines.index("") + 1 :]
    assert sum(line.split()[0].isdigit() and "6/6" in line for line in table if line) == 12
    assert table[0].split() == [
        *("layer", "INT8", "FLOPs", "1", "scale", "pre-scaled", "groups", "float"),
        *("noisiest", "input,", "expected", "dB"),
    ]
    assert table[1].split() == [
        *("0", "6/6", "8.3", "%", "2", "1", "1", "2", "30.0", "attn.output"),
    ]
    assert not any("bert.encoder" in line for line in lines)
    assert lines[-1] == "Every site and GEMM: add -v."


def test_the_command_of_the_summary_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for found, flags in ((engine(), []), (engine(dry_run=True, int8=None), ["--simulate"])):
        lines = screen(found, ["my engine"], monkeypatch, capsys)
        typed = next(line for line in lines if line.startswith("measure it"))
        words = shlex.split(typed.removeprefix("measure it"))
        assert words == ["qdeploy", "eval", "my engine", *flags]
        assert set(flags) <= {flag for param in cli.commands["eval"].params for flag in param.opts}


def test_all_of_it_with_v(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = screen(engine(), ["e", "-v"], monkeypatch, capsys)
    text = "\n".join(lines)
    assert all(f"site {name}," in text for name in SITES)
    assert "MatMulIntegerToFloat" in text and "add -v" not in text


def test_what_fell_back_is_said_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    causes = [
        {"planned": "int8", "reason": "its scales are FP16", "count": 5, "flops_share": 0.25,
         "gemms": [f"layer.{n}.query" for n in range(3)]},
        {"planned": "float", "reason": "named in --float-sites", "count": 1, "flops_share": 0.01,
         "gemms": ["classifier"]},
    ]  # fmt: skip
    lines = screen(engine(float=causes), ["e"], monkeypatch, capsys)
    text = " ".join(" ".join(lines).split())
    assert (
        "FELL BACK to float: 5 products, 25.0 % of the FLOPs (its scales are FP16): L0 query, L1 "
        "query, L2 query and 2 more"
    ) in text
    assert "In float: 1 product, 1.0 % of the FLOPs (named in --float-sites): classifier" in text


def test_a_dry_run_says_that_nothing_ran(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = engine(dry_run=True, int8=None)
    found["layers"] = [row | {"executed": None} for row in found["layers"]]
    text = " ".join(" ".join(screen(found, ["e"], monkeypatch, capsys)).split())
    assert "a dry run: nothing was compiled" in text and "no kernel was looked at" in text
    assert "INT8 counts GEMMs that are planned so; nothing ran." in text


def test_a_noisy_engine_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = {
        "simulated": False, "rows": 32, "data": "qnli-mini", "finite": True, "equal": False,
        "sqnr_db": 9.5, "flipped": 7, "answers": 32, "max_abs_diff": 1.5, "warning": "Too noisy.",
    }  # fmt: skip
    text = " ".join(screen(engine(noise=noise), ["e"], monkeypatch, capsys))
    assert "9.5 dB of logit SQNR" in text and "Warning: Too noisy." in text


def test_a_model_and_its_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        **{key: engine()[key] for key in ("model_type", "task", "labels", "inputs", "max_length")},
        "kind": "model",
        "source": {"id": "embedded", "sha256": "0" * 64},
        "size_mb": 90.7,
        "gemms": 38,
        "sites": 99,
        "embedding_tables": {"words": [30522, 384]},
        "verification": {"max_abs_diff": 3.1e-7},
        "statistics": [
            {"file": "a.npz", "damaged": False, "data": "qnli-mini", "rows": 128, "seed": 0,
             "max_length": 512},
            {"file": "b.npz", "damaged": True},
        ],
    }  # fmt: skip
    lines = screen(found, ["m"], monkeypatch, capsys)
    assert max(map(len, lines)) < WIDTH and len(lines) <= 11
    text = " ".join(" ".join(lines).split())
    for part in (
        "made from embedded",
        "38 GEMMs, 99 sites that can be rounded, 1 embedding table (30522 × 384)",
        "outputs differ from torch's by 3.1e-07 at most",
        "128 rows of qnli-mini, at most 512 tokens; b.npz (damaged",
        "qdeploy build m m-peg",
    ):
        assert part in text


def test_broken_rules_fit_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [{"node": f"/bert/encoder/layer.{n}/attention/self/query/MatMul_quant",
               "text": "its zero point is not 0"} for n in range(3)]  # fmt: skip
    rule = {"rule": "zero-point", "severity": "error", "count": 37, "places": places,
            "remedy": "quantize symmetrically"}  # fmt: skip
    found = {
        "kind": "onnx",
        "inputs": {"input_ids": "[batch,sequence]"},
        "operators": {"MatMul": 50, "Add": 3},
        "contract": {"target": "tensorrt", "errors": 37, "advice": 0, "rules": [rule],
                     "violations": []},
    }  # fmt: skip
    lines = screen(found, ["m.onnx"], monkeypatch, capsys)
    assert max(map(len, lines)) < WIDTH
    assert "tensorrt: breaks the rules in 37 places, 0 of advice" in lines
    at = lines.index("error zero-point, 37 places: its zero point is not 0. To do: quantize")
    assert lines[at + 1 :] == [
        "  symmetrically.",
        *(f"    L{n} attn/query/MatMul_quant" for n in range(3)),
        "    and 34 more (all of them: -v)",
    ]
    rule["places"] = [place | {"text": f"its zero point is {n}"} for n, place in enumerate(places)]
    lines = screen(found, ["m.onnx"], monkeypatch, capsys)
    assert "error zero-point, 37 places. To do: quantize symmetrically." in lines
    assert "    L2 attn/query/MatMul_quant: its zero point is 2" in lines


def test_the_path_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: dict[str, Any] = {}

    def inspect(path: Path, **options: Any) -> dict[str, Any]:
        noted.update(options, path=path)
        return engine()

    monkeypatch.setattr(api, "inspect", inspect)
    assert main(["inspect", "e", "--target", "ort-cpu", "--require-int8", "0.9", "-q"]) == 0
    assert noted == {"path": Path("e"), "target": "ort-cpu", "require_int8": 0.9}
