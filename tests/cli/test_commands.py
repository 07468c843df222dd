"""Each command passes what was typed to its function, and nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from qdeploy import api
from qdeploy.cli import cli, main, tables
from qdeploy.cli.predict import _summary
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import GateError
from qdeploy.schemas.manifest import Noise
from tests.report.reports import evaluation

FUNCTIONS = {"eval": "evaluate", "predict": "predict_file"}
# What a command names differently from its function, and why.
SHARED = {"json", "quiet", "verbose"}
REPORT: Any = evaluation()
REPORT["metrics"] |= {"accuracy": 0.866, "ci95": [0.857, 0.875], "constant_predictor": True}
REPORT["baseline"] |= {"drop": 0.32, "mcnemar_p": 1e-9, "agreement": 0.6, "sqnr_db": None}
REPORT["speedup"] = {"ratio": 3.2, "ci95": [3.1, 3.3]}
REPORT["int8"] |= {
    "planned": 36,
    "executed": 35,
    "summary": "99.99 % of all constant-weight FLOPs planned, 35/36 ran",
}


PREDICTED: dict[str, Any] = {
    "unanswered": 0,
    "rows": 40,
    "answers": {"yes": 12, "no": 28},
    "seconds": 0.5,
    "rows_per_s": 80.0,
    "threads": 3,
    "out": None,
}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What each function of the API was called with, by name; none of them runs."""
    noted: dict[str, dict[str, Any]] = {}

    def stand_in(name: str, result: Any) -> None:
        signature = inspect.signature(getattr(api, name))

        def function(*args: Any, **kwargs: Any) -> Any:
            noted[name] = dict(signature.bind(*args, **kwargs).arguments)
            return result

        monkeypatch.setattr(api, name, function)

    stand_in("export", {"model_type": "bert", "task": "t", "verification": {"max_abs_diff": 3e-7}})
    stand_in("calibrate", Path("statistics.npz"))
    stand_in("build", {"strategy": "peg", "scope": "gemm", "target": "ort-cpu"})
    stand_in("evaluate", REPORT)
    stand_in("predict_file", PREDICTED)
    return noted


@pytest.mark.parametrize("name", cli.commands)
def test_options_are_the_parameters_of_the_function(name: str) -> None:
    functions = [FUNCTIONS.get(name, name)]
    if name == "inspect":  # with --against it is another function
        functions.append("inspect_against")
    parameters = {p for f in functions for p in inspect.signature(getattr(api, f)).parameters}
    typed = {param.name for param in cli.commands[name].params}
    assert typed - SHARED == parameters - {"progress", "options"}


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        *(("export", ["c", "m"]), ("calibrate", ["m"]), ("build", ["m", "e"]), ("eval", ["e"])),
        ("predict", ["e", "-"]),
    ],
)
def test_defaults_are_those_of_the_function(
    name: str, paths: list[str], called: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    function = FUNCTIONS.get(name, name)
    assert main([name, *paths]) == 0
    monkeypatch.undo()  # the signature of the function itself, not of its stand-in
    parameters = inspect.signature(getattr(api, function)).parameters
    passed = {key: value for key, value in called[function].items() if key != "progress"}
    for key, value in list(passed.items())[len(paths) :]:
        assert (value or None) == (parameters[key].default or None), key


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_reports_the_same_way(name: str) -> None:
    flags = {flag for param in cli.commands[name].params for flag in param.opts}
    assert {"--json", "--quiet", "--verbose"} <= flags


def test_build_passes_what_was_typed(called: dict[str, dict[str, Any]]) -> None:
    flags = "--scope all --activations symmetric --weights per-tensor --groups 4 --alpha 0.5"
    more = "--outlier-channels none --percentile 99.9 --force --dry-run --seed 7"
    assert main(["build", "m", "e", *flags.split(), *more.split()]) == 0
    expected = {
        "model_dir": Path("m"),
        "engine_dir": Path("e"),
        "scope": "all",
        "activations": "symmetric",
        "weights": "per-tensor",
        "groups": 4,
        "alpha": 0.5,
        "outlier_channels": "none",
        "percentile": 99.9,
        "force": True,
        "dry_run": True,
        "seed": 7,
        "data": None,
    }
    assert called["build"].items() >= expected.items()


def test_build_says_what_it_built_and_what_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = {"strategy": "peg", "scope": "gemm", "target": "ort-cpu", "int8": REPORT["int8"]}
    monkeypatch.setattr(api, "build", lambda *_, **__: built)
    assert main(["build", "m", "e"]) == 0
    assert capsys.readouterr().out == (
        "e: peg, gemm, ort-cpu\n"
        "INT8: 99.99 % of all constant-weight FLOPs planned, 35/36 ran\n"
        "Next: qdeploy eval e --baseline fp32\n"
    )


def test_build_says_what_calibrated_and_what_was_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = {"mean": 50.0, "median": 40, "p95": 120, "max": 128}
    cut = {"lengths": lengths, "truncated": 6, "truncated_share": 0.046875, "max_length": 128}
    calibration = {"rows": 128, "data": "train.tsv", **cut}
    built = {"strategy": "peg", "scope": "gemm", "target": "ort-cpu", "calibration": calibration}
    monkeypatch.setattr(api, "build", lambda *_, **__: built)
    assert main(["build", "m", "e", "--max-length", "128"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        "calibrated on 128 rows of train.tsv; tokens of a row: median 40, 95 % up to 120, at most "
        "128; 6 rows (4.7 %) cut at 128"
    ) in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) < 80


@pytest.mark.parametrize(
    ("command", "paths"), [("build", ["m", "e"]), ("calibrate", ["m"]), ("eval", ["e"])]
)
def test_the_limit_of_a_row_is_passed_on(
    command: str, paths: list[str], called: dict[str, dict[str, Any]]
) -> None:
    assert main([command, *paths, "--max-length", "256"]) == 0
    assert called[FUNCTIONS.get(command, command)]["max_length"] == 256


def test_words_stay_words_and_numbers_are_numbers(called: dict[str, dict[str, Any]]) -> None:
    assert main(["build", "m", "e", "--groups", "4", "--outlier-channels", "none"]) == 0
    assert called["build"]["groups"] == 4 and called["build"]["outlier_channels"] == "none"
    assert called["build"]["alpha"] == "auto"


def test_eval_passes_what_was_typed(called: dict[str, dict[str, Any]]) -> None:
    flags = "--baseline b --limit 9 --no-latency --max-drop 0.5 --require-int8 0.99 --columns a=b"
    assert main(["eval", "e", *flags.split()]) == 0
    expected = {
        "baseline": Path("b"),
        "limit": 9,
        "latency": False,
        "accuracy": True,
        "max_drop": 0.5,
        "require_int8": 0.99,
        "columns": "a=b",
    }
    assert called["evaluate"].items() >= expected.items()


def test_eval_prints_int8_beside_the_latency_and_calls_a_constant_predictor_out(
    called: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "e"]) == 0
    out = capsys.readouterr().out
    assert "86.60 % (95 %: 85.70 to 87.50; 5463 rows, qnli)" in " ".join(out.split())
    assert "CONSTANT PREDICTOR" in out
    assert "+32.00 points" in out
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("p90, p95, p99, mean"))
    assert lines[at - 1].startswith("latency ") and lines[at + 1].startswith("INT8 ")
    assert "99.99 % of all constant-weight FLOPs planned," in lines[at + 1]
    assert "3.20 ×" in out


def test_eval_prints_both_ratios_and_whether_neighbours_matter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "evaluate", lambda *_, **__: evaluation())
    assert main(["eval", "e"]) == 0
    out = capsys.readouterr().out
    for text in (
        "latency 19.80 ms (median, 8 × 128 tokens, 2 threads)",
        "runs 24 runs before and 166 timed in 14.9 s (ended by --seconds)",
        "traffic, 8 rows 12.00 ms (median; p95 18.00 ms, 640 rows a second, 38.2 % padding)",
        "offline, 32 rows sorted 720 rows a second (44.00 ms a batch, 6.1 % padding)",
        "tokens in traffic median 46, 95 % up to 83",
        "runs of traffic 500 runs of each engine timed, 20.0 s in all",
        "speed against fp32 2.41 × (95 %: 2.30 to 2.52; traffic, 8 rows)",
        "speed against fp32 2.22 × (95 %: 2.10 to 2.31; offline, 32 rows sorted)",
        "speed against fp32 3.13 × (95 %: 3.10 to 3.17; fixed shape, 8 × 128)",
        "An answer depends on the rows beside it: up to 0.48 in a logit, 1 of 128 answers change",
        "in a batch, fp32 An answer does not depend on the rows beside it",
    ):
        assert text in " ".join(out.split()), out


def test_predict_says_on_standard_error_what_it_answered(
    called: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "e", "--format", "text"]) == 0
    assert called["predict_file"]["file"] == Path("-")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "40 rows answered in 0.5 s, 80 rows a second, 3 threads\nno 28, yes 12\n"
    assert main(["predict", "e", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("rows", "rate", "said"),
    [
        (0, 0.0, "0 rows answered in 0.1 s, 2 threads"),
        (0, None, "0 rows answered in 0.1 s, 2 threads"),
        (1, 0.21, "1 row answered in 0.1 s, 0.21 rows a second, 2 threads"),
        (9, 80.4, "9 rows answered in 0.1 s, 80 rows a second, 2 threads"),
    ],
)
def test_a_speed_is_said_where_there_is_one(
    rows: int, rate: float | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found: Any = {"rows": rows, "rows_per_s": rate, "seconds": 0.1, "threads": 2}
    _summary(found | {"answers": {}, "out": None}, print)
    assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.parametrize(
    ("flipped", "said"), [(0, "0 of 32 answers change,"), (1, "1 of 32 answers changes,")]
)
def test_one_answer_changes(flipped: int, said: str) -> None:
    noise: Noise = {"simulated": False, "rows": 32, "data": "x", "finite": True, "equal": False,
             "sqnr_db": 20.0, "flipped": flipped, "answers": 32, "max_abs_diff": 0.1,
             "warning": None}  # fmt: skip
    assert said in tables.noise(noise)


def test_answers_and_the_report_do_not_share_standard_output(
    called: dict[str, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "e", "--json", "-"]) == 2
    assert "would share standard output" in capsys.readouterr().err
    same = str(tmp_path / "x.json")
    assert main(["predict", "e", "--json", same, "--out", same]) == 2
    assert "name the same file" in capsys.readouterr().err
    assert "predict_file" not in called


def test_a_failed_gate_is_1_and_its_report_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = GateError("Accuracy drops by 32.00 points.")
    error.__dict__["report"] = REPORT

    def function(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "evaluate", function)
    assert main(["eval", "e", "--json", str(tmp_path / "report.json")]) == 1
    out, err = capsys.readouterr()
    assert (tmp_path / "report.json").is_file()
    assert "86.60 %" in out
    assert err == "Error: Accuracy drops by 32.00 points.\n"


def test_export_says_how_near_and_what_next(
    called: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "bert", "m", "--allow-pickle"]) == 0
    assert called["export"]["allow_pickle"] is True
    assert called["export"]["checkpoint"] == "bert"
    out = capsys.readouterr().out
    assert "max |difference| 3.0e-07" in out
    assert "Next: qdeploy build m m-peg" in out


def test_export_looks_at_its_output_before_it_loads_pytorch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    for words, fact in (
        (["x", f"{tmp_path}/there"], "already exists. Pass --force"),
        ([f"{tmp_path}/there", f"{tmp_path}/there/in"], "overlap"),
    ):
        assert main(["export", *words]) == 2
        text = capsys.readouterr().err
        assert fact in text and "PyTorch" not in text


def test_calibrate_prints_the_path(
    called: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "m", "--calibration-rows", "64"]) == 0
    assert called["calibrate"]["calibration_rows"] == 64
    assert capsys.readouterr().out == "statistics.npz\n"


def test_doctor_names_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in TARGETS:
        assert f"\n  {name} " in out or f"\n  {name}: " in out
    assert "INT8 " in out and "{" not in out


def test_demo_ends_with_its_table_and_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {
        "name": "fp32",
        "rounded": "nothing",
        "accuracy": 0.857,
        "n": 300,
        "drop": 0.0,
        "sqnr_db": None,
        "flipped": 0,
        "p50_ms": 96.0,
        "speedup": 1.0,
        "size_mb": 91.2,
        "int8_planned": 0,
        "int8_share": 0.0,
    }
    broken = base | {
        "name": "w8a8",
        "rounded": "every activation",
        "accuracy": 0.537,
        "drop": 0.32,
        "sqnr_db": -0.14,
        "flipped": 107,
        "p50_ms": 30.04,
        "speedup": 3.196,
        "size_mb": 23.4,
        "int8_planned": 36,
        "int8_share": 0.99996,
    }
    result = {"data": "qnli-mini", "shape": [8, 128], "rows": [base, broken], "threads": 2}
    result["sentences"] = ["It broke. " * 12, "Ship the other."]
    monkeypatch.setattr(api, "demo", lambda *_, **__: result)
    assert main(["demo"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("qnli-mini, 300 rows; time of a batch of 8 × 128 tokens on 2 ")
    cells = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert cells["fp32"] == ["85.70", "96.00", "1.00", "91.2", "none"]
    assert cells["w8a8"] == [
        "53.70",
        "+32.00",
        "-0.1",
        "107",
        "30.04",
        "3.20",
        "23.4",
        "99.99",
        "%",
    ]
    assert "every activation:" in [line.strip() for line in lines]
    assert max(map(len, lines)) <= 100 and lines[-1] == "Ship the other."
