"""Reports as the commands make them, small and written by hand."""

from __future__ import annotations

from typing import Any

from qdeploy.schemas.analysis import Analysis, AnalyzedSite, MeasuredPlan
from qdeploy.schemas.manifest import Lengths
from qdeploy.schemas.sweep import RanInInt8, SweepResult, SweptTrial

VERSIONS = {"qdeploy": "0.1.0", "onnxruntime": "1.31.1"}
TIMES = {"p50": 19.8, "p90": 20.5, "p95": 21.0, "p99": 21.8, "mean": 19.9}
# Of rows, as a report holds them.
CUT: Lengths = {
    "max_length": 128,
    "truncated": 3,
    "truncated_share": 0.000549,
    "lengths": {"mean": 51.2, "median": 48, "p95": 90, "max": 128},
}


def analysis() -> Analysis:
    """What `analyze` gives for a model of two layers."""
    counts = [0] * 511
    counts[255], counts[256], counts[300] = 900, 90, 10
    site: AnalyzedSite = {
        "name": "layer.0.output.LayerNorm.input",
        "short": "L0 ffn.sum",
        "kind": "FFN residual sum",
        "layer": 0,
        "depth": 1,
        "stream": True,
        "channels": 4,
        "mean": 0.1,
        "variance": 2.0,
        "kurtosis": 1200.0,
        "minimum": -3.0,
        "maximum": 200.0,
        "energy_top_1pct_channels": 0.84,
        "energy_top_1pct_elements": 0.9,
        "max_over_median_channel": 92.0,
        "outlier_channels": [2],
        "outlier_channel_count": 1,
        "outlier_energy": 0.84,
        "carriers": {
            "[SEP]": {"tokens": 0.05, "energy": 0.9, "holds_peak": 1.0},
            "other tokens": {"tokens": 0.95, "energy": 0.1, "holds_peak": 0.0},
        },
        "treatment": {"groups": 2, "outlier_channels": [], "prescaled": False, "text": "2 groups"},
        "w8a8_expected_db": 8.0,
        "expected_db": 36.0,
        "cost": {"alone_db": 3.5, "flipped": 4, "flip_percent": 11.0, "gain_db": 1.2},
        "remedy": {"groups": 2, "sqnr_db": {"1": 3.5, "2": 34.0}, "peg_db": 34.5},
        "levels": {
            "before": {"counts": counts, "used": 3.2},
            "after": {"counts": counts, "used": 90.0},
        },
    }
    quiet: AnalyzedSite = {
        **site,
        "name": "layer.1.attention.self.softmax",
        "short": "L1 attn.probs",
        "kind": "attention probabilities",
        "layer": 1,
        "depth": 2,
        "stream": False,
        "channels": 1,
        "kurtosis": 9.0,
        "energy_top_1pct_channels": None,
        "max_over_median_channel": None,
        "outlier_channels": [],
        "outlier_channel_count": 0,
        "outlier_energy": 0.0,
        "carriers": None,
        "w8a8_expected_db": 50.0,
        "cost": {"alone_db": 60.0, "flipped": 0, "flip_percent": 0.0, "gain_db": None},
        "remedy": None,
        "levels": None,
    }
    unmeasured: AnalyzedSite = {
        **quiet,
        "name": "classifier.input",
        "short": "head.input",
        "layer": None,
        "w8a8_expected_db": 55.0,
        "cost": None,
    }
    plan: MeasuredPlan = {
        "strategy": "w8a8",
        "scope": "all",
        "sites": 3,
        "float_sites": [],
        "sqnr_db": 1.0,
        "flipped": 9,
        "flip_percent": 30.0,
    }
    peg: MeasuredPlan = {
        **plan,
        "strategy": "peg",
        "sqnr_db": 31.0,
        "flipped": 0,
        "flip_percent": 0.1,
    }
    return {
        "schema": 2,
        "kind": "analysis",
        "model": "model",
        "data": {"source": "rows.tsv", "rows": 128, **CUT},
        "scope": "all",
        "activations": "symmetric",
        "versions": VERSIONS,
        "w8a8_db": 1.0,
        "cost_rows": 32,
        "seconds": 120.0,
        "answers": 32,
        "plans": [plan, peg],
        "left_out": {"costs": ["classifier.input"], "remedies": [],
                     "gains": ["layer.1.attention.self.softmax", "classifier.input"]},
        "build": {"options": {"strategy": "peg", "scope": "all"}, "plan": 1,
                  "command": "qdeploy build model model-peg --strategy peg --scope all",
                  "reason": "The SQNR of the logits is 30.0 dB higher than with one scale."},
        "recommendations": [{"text": "FFN residual sum of layer 0: K = 2 suffices", "sites": ["a"],
                             "alone_db": 3.5}],
        "recurring": [{"channel": 2, "channels": 4, "depths": [0, 1], "sites": 3}],
        "heat_map": {"kind": "FFN residual sum", "layers": [0, 1],
                     "values": [[1.0, 1.0, 92.0, 0.9], [1.0, 1.1, 60.0, 1.0]]},
        "sites": [site, quiet, unmeasured],
    }  # fmt: skip


def evaluation() -> Any:
    """What `eval` gives with a baseline."""
    gemm = {"planned": "int8", "kernel": "MatMulIntegerToFloat", "flops_share": 0.5,
            "time_share": 0.2, "reason": ""}  # fmt: skip
    fallen = gemm | {"kernel": "MatMul", "reason": "per-axis activation scale"}
    return {
        "schema": 1,
        "kind": "evaluation",
        "engine": "engine",
        "target": "ort-cpu",
        "rest_precision": "f32",
        "simulated": False,
        "auto": None,
        "strategy": "peg",
        "scope": "gemm",
        "task": "qnli",
        "metrics": {"accuracy": 0.8675, "n": 5463, "ci95": [0.858, 0.876],
                    "constant_predictor": False},
        "quality": None,
        "baseline": {"engine": "fp32", "target": "ort-cpu", "strategy": "fp32",
                     "scope": "gemm", "constant_predictor": False, "accuracy": 0.8699,
                     "ci95": [0.8607, 0.8785], "drop": 0.0024, "mcnemar_p": 0.10, "flipped": 55,
                     "agreement": 0.99, "sqnr_db": 28.9, "equal_logits": False,
                     "max_abs_diff": 0.31, "latency_ms": TIMES | {"p50": 62.0, "p95": 64.0},
                     "traffic": [{"latency_ms": {"p50": 29.0, "p95": 41.0}, "rows_per_s": 260.0},
                                 {"latency_ms": {"p50": 99.0, "p95": 140.0}, "rows_per_s": 320.0}],
                     "neighbours": {"rows": 128, "batch_size": 8, "max_abs_diff": 0.0, "flipped": 0,
                                    "padding": {"max_abs_diff": 0.0, "flipped": 0},
                                    "summary": "An answer does not depend on the rows beside it"}},
        "latency_ms": TIMES,
        "device_ms": None,
        "cuda_graph": None,
        "throughput": {"rows_per_s": 400.0, "tokens_per_s": 51200.0},
        "speedup": {"ratio": 3.13, "ci95": [3.10, 3.17]},
        "protocol": {"batch_size": 8, "seq_len": 128, "threads": 2, "asked_warmup": None,
                     "asked_iterations": None, "asked_seconds": 30.0, "warmup": 24,
                     "iterations": 166, "seconds": 14.9, "ended_by_time": True},
        "traffic": [{"order": "given", "batch_size": 8, "batches": 500, "padding": 0.382,
                     "tokens": {"median": 46.0, "p95": 83.0},
                     "warmup": 60, "iterations": 402, "seconds": 14.8, "ended_by_time": True,
                     "latency_ms": {"p50": 12.0, "p95": 18.0}, "rows_per_s": 640.0,
                     "speedup": {"ratio": 2.41, "ci95": [2.30, 2.52]}},
                    {"order": "sorted", "batch_size": 32, "batches": 128, "padding": 0.061,
                     "tokens": {"median": 46.0, "p95": 83.0},
                     "warmup": 9, "iterations": 98, "seconds": 5.2, "ended_by_time": True,
                     "latency_ms": {"p50": 44.0, "p95": 71.0}, "rows_per_s": 720.0,
                     "speedup": {"ratio": 2.22, "ci95": [2.10, 2.31]}}],
        "neighbours": {"rows": 128, "batch_size": 8, "max_abs_diff": 0.48, "flipped": 1,
                       "padding": {"max_abs_diff": 0.2, "flipped": 0},
                       "summary": "An answer depends on the rows beside it: up to 0.48 in a "
                                  "logit, 1 of 128 answers change"},
        "int8_peak": {"tops": 0.41, "peak_tops": 0.89, "share": 0.461,
                      "fastest": {"ONNX Runtime": 30, "OpenVINO": 6}},
        "memory_mb": {"peak": 163.0, "interpreter": 60.0},
        "size_mb": {"total": 25.0, "model": 24.5, "weights": 24.0},
        "int8": {"planned": 2, "executed": 1, "planned_share": 0.9, "executed_share": 0.55,
                 "flops_share": 0.5, "unplanned": [], "flops_measured": True,
                 "fallbacks": [{"site": "b", "kernel": "MatMul", "reason": "per-axis"}],
                 "short": "90 %, 1/2, 50 %",
                 "summary": "90 % of all constant-weight FLOPs planned, 1/2 planned GEMMs ran",
                 "gemms": {"a": gemm, "b": fallen}},
        "data": {"source": "dev.tsv", "n": 5463, "hash": "ab", "labelled": True,
                 "also_calibration": 0, "calibration": None, **CUT, "task": "qnli",
                 "columns": {"first": "question", "second": "sentence", "label": "label"},
                 "stands_in": False, "how": None, "remembered": False, "left_out": 0},
        "no_accuracy": None,
        "labels": {"order": ["entailment", "not_entailment"], "from": "model", "form": "names",
                   "swapped": False, "order_if_swapped": None, "accuracy_if_swapped": None},
        "versions": VERSIONS,
        "warnings": [],
    }  # fmt: skip


def manifest() -> Any:
    """The engine's qdeploy.json."""
    return {
        "source": {"path": "model", "sha256": "0" * 64},
        "task": "sequence-classification",
        "model_type": "bert",
        "inputs": ["input_ids", "attention_mask"],
        "labels": ["entailment", "not_entailment"],
        "max_length": 512,
        "pad_token_id": 0,
        "outputs": ["logits"],
        "calibration": {"rows": 128, "data": "train.tsv"},
        "versions": VERSIONS,
    }


LONG_KERNEL = "MatMulIntegerToFloat_with_DequantizeLinear_and_a_name_of_its_own_that_is_long"


def deep_evaluation() -> Any:
    """What `eval` gives of an engine as deep as BERT-base, cut rows and an accuracy near 100 %."""
    report = evaluation()
    gemm = report["int8"]["gemms"]["a"] | {"kernel": LONG_KERNEL, "time_share": None}
    names = ("attention.self.query", "intermediate.dense", "output.dense")
    report["int8"]["gemms"] = {
        f"bert.encoder.layer.{layer}.{name}": gemm for layer in range(12) for name in names
    }
    report["metrics"] |= {"accuracy": 0.995, "ci95": [0.98, 1.0]}
    report["baseline"] |= {"accuracy": 0.996, "ci95": [0.981, 1.0]}
    return report


def swept() -> SweepResult:
    """What `sweep` gives: FP32, three engines, and one that failed."""
    trials: list[SweptTrial] = []
    for number, label in enumerate(("fp32", "w8a8 all", "peg groups=4 sorted all", "peg")):
        trials.append(
            {
                "key": f"k{number}", "label": label, "settings": {}, "target": "ort-cpu",
                "error": None, "metric": "accuracy", "value": 1 - number / 100,
                "ci95": [0.9, 1.0], "n": 5463, "constant_predictor": False,
                "drop": number / 100, "drop_ci95": None, "mcnemar_p": 0.5,
                "flipped": 0, "agreement": 1.0, "sqnr_db": None, "max_abs_diff": None,
                "p50_ms": 60.0 / (1 + number), "p95_ms": 61.0,
                "speedup": None if not number else {"ratio": 1.0 + number, "ci95": [1, 4]},
                "relative": 1 - number / 5, "memory_mb": None,
                "size_mb": {"total": 90.0 - 20 * number, "weights": 1.0},
                "int8": RAN if number else None, "latency": {}, "machine": "Test CPU, 2 threads",
                "date": "2026-11-26", "warnings": [], "ran": {},
            }
        )  # fmt: skip
    trials.append(
        {"key": "k4", "label": "bad", "settings": {}, "target": "ort-cpu", "error": "it stopped"}
    )
    return {
        "schema": 1, "kind": "sweep", "model": "bert-base-qnli", "trials": trials,
        "pareto": ["k0", "k3"], "cheapest": "k3", "max_drop": 5.0, "next": None, "warnings": [],
        "machines": ["Test CPU, 2 threads"], "dates": ["2026-11-26"], "versions": VERSIONS,
        "data": {"source": "dev.tsv", "n": 5463, "left_out": 0, **CUT},
        "setting": {"model": "m", "statistics": "s", "rows": "r", "versions": VERSIONS,
                    "protocol": {"task": "qnli", "columns": None, "max_length": None, "rows": 128,
                                 "seed": 0, "limit": None, "shapes": [[8, 128]], "warmup": 100,
                                 "iterations": 500, "threads": 2}},
    }  # fmt: skip


RAN: RanInInt8 = {
    "planned": 9, "executed": 8, "planned_share": 0.99999, "executed_share": 0.9,
    "flops_share": 0.9, "time_share": None, "fallbacks": [], "unplanned": [],
    "flops_measured": True, "summary": "90 %", "short": "90 %",
}  # fmt: skip
