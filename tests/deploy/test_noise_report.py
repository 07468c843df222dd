"""What `build` says of noise: figures always, and below a floor a warning with its sources."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.calibrate.batches import Sample
from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.sample import ROWS as SAMPLE_ROWS
from qdeploy.calibrate.sample import measuring_sample
from qdeploy.calibrate.statistics import Statistics
from qdeploy.cli import main, tables
from qdeploy.data.rows import read_rows
from qdeploy.deploy import noise_sources
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.noise_report import FLOOR_DB, measure_noise
from qdeploy.deploy.open import open_engine
from qdeploy.errors import QDeployWarning
from qdeploy.files.artifact import read_json, write_manifest
from qdeploy.graph.sites import find_structure
from qdeploy.names import short_name
from tests.deploy.conftest import DATA, Built, Source
from tests.exports import Exports
from tests.tiny import no_progress_bar, tiny_config, tiny_tokenizer

LAYERS = 12


def deep_model(home: Path, hidden: int) -> Path:
    """A model whose every site is quiet, and whose logits read what hardly differs between rows.

    Its noise adds up over twelve layers, and stands against a direction of the pooled output in
    which rows differ a hundredth as much as in the first. There are twice as many rows as channels:
    with as many, rows hardly differ in that direction, and the last layer's noise alone is more
    than half of all.
    """
    import torch
    import transformers

    rows = read_rows(DATA, split="calibration").sample(2 * hidden, 0)
    tokenizer, config = tiny_tokenizer("bert"), tiny_config("bert")
    config.hidden_size, config.intermediate_size = hidden, 2 * hidden
    config.num_hidden_layers, config.initializer_range = LAYERS, 0.12 * (32 / hidden) ** 0.5
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
        texts: Any = (list(rows.first), list(rows.second or ()))
        limits: Any = {"padding": True, "truncation": True, "return_tensors": "pt"}
        pooled = model.bert(**tokenizer(*texts, **limits)).pooler_output
        _, sizes, directions = torch.linalg.svd(pooled - pooled.mean(0))
        place = 3 * hidden // 4
        read = directions[place] * 2 / sizes[place]  # logits of about a quarter
        model.classifier.weight.copy_(torch.stack([read, -read]))
        offset = pooled.mean(0) @ read
        model.classifier.bias.copy_(torch.stack([-offset, offset]))
    with no_progress_bar():
        model.save_pretrained(home / "checkpoint")
    tokenizer.save_pretrained(home / "checkpoint")
    qdeploy.export(home / "checkpoint", home / "model")
    return home / "model"


@pytest.mark.slow  # twelve layers
@pytest.mark.parametrize(("hidden", "apart"), [(32, 3.0), (64, 1.5)])
def test_noise_that_adds_up_is_seen(
    hidden: int,
    apart: float,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise_sources, "_SECONDS", 600)  # a busy machine names the same sites
    monkeypatch.setattr(noise_sources, "_RUNS", 40)
    # sites are measured on the first batch, and the engine on all: levels of one kind of row differ
    # from those of another by more than what is asked for here, so that both are of the same rows
    monkeypatch.setattr(Sample, "first", lambda sample: sample)
    model, engine = deep_model(tmp_path, hidden), tmp_path / "engine"
    options: dict[str, Any] = {"noise_target": 33.0, "data": DATA}
    with pytest.warns(QDeployWarning, match="The logits stand") as caught:
        built = qdeploy.build(model, engine, **options)
    noise = built["noise"]
    (text,) = [str(w.message) for w in caught if str(w.message).startswith("The logits stand")]
    assert built["plan"]["lowest_sqnr_db"] > 31
    assert noise["sqnr_db"] < 10 < FLOOR_DB == noise["floor_db"]
    assert noise["flipped"] > 0 and noise["answers"] == noise["rows"]
    assert f"{noise['sqnr_db']:.1f} dB" in text and f"{noise['flipped']} of" in text

    # the sites that are named are the noisiest of all, as each is measured alone
    sources = noise["sources"]
    levels: list[Any] = [source["alone_db"] for source in sources]
    assert levels == sorted(levels) and len(sources) == 8
    assert all(f"{short_name(source['site'])} (" in text for source in sources[:3])
    assert "and 5 more" in text and not any(source["site"] in text for source in sources)
    assert {s["site"] for s in sources} <= {
        s["name"] for s in read_json(engine / "plan.json")["sites"]
    }
    assert levels[0] > noise["sqnr_db"] + apart  # none of them is it alone

    # it stays in the manifest, and inspect and the command say it
    assert read_json(engine / "qdeploy.json")["noise"] == noise
    assert main(["inspect", str(engine)]) == 0
    said = " ".join(capsys.readouterr().out.split())  # lines are wrapped
    assert f"{noise['sqnr_db']:.1f} dB of logit SQNR" in said and f"Warning: {text}" in said


def test_figures_of_a_quiet_engine(engine: Callable[..., Built], bert: Source) -> None:
    built = engine(strategy="peg")
    noise = read_json(built.directory / "qdeploy.json")["noise"]
    assert noise == built.report["noise"]
    assert noise["sqnr_db"] > FLOOR_DB and noise["warning"] is None and not noise["sources"]
    assert noise["data"] == DATA and noise["rows"] == 16 and not noise["simulated"]
    assert noise["max_abs_diff"] > 0 and not noise["equal"] and noise["finite"]


def test_figures_agree_with_a_count_of_another_kind(
    engine: Callable[..., Built], bert: Source
) -> None:
    """Row by row through `load(...).logits`, and the formulas written out."""
    base, built = engine(strategy="fp32"), engine(strategy="w8a8")
    noise = built.report["noise"]
    rows = read_rows(DATA, split="calibration").sample(16, 0).take(noise["rows"])
    pairs = list(zip(rows.first, rows.second or (), strict=True))
    exact, found = (
        np.array([row["logits"] for row in qdeploy.load(where.directory).logits(pairs)])
        for where in (base, built)
    )
    error = np.square(found - exact).sum()
    signal = np.square(exact - exact.mean()).sum()
    assert noise["sqnr_db"] == pytest.approx(10 * np.log10(signal / error), abs=0.1)
    assert noise["max_abs_diff"] == pytest.approx(np.abs(found - exact).max(), rel=0.02)
    assert noise["flipped"] == (found.argmax(1) != exact.argmax(1)).sum()


def test_fp32_has_nothing_to_lose(engine: Callable[..., Built]) -> None:
    assert engine(strategy="fp32").report["noise"] is None


def test_noise_that_is_of_no_site_names_none(bert: Source, tmp_path: Path) -> None:
    """A bias that FP16 cannot hold is cut off."""
    model = Path(shutil.copytree(bert.directory, tmp_path / "model"))
    graph = ir.load(model / "model.onnx")
    bias = graph.graph.initializers["classifier.bias"]
    bias.const_value = ir.tensor(np.array([2e5, 0], np.float32), name=bias.name)
    ir.save(graph, model / "model.onnx")
    fields = read_json(model / "qdeploy.json")
    (model / "qdeploy.json").unlink()
    write_manifest(model, "model", fields)
    options: dict[str, Any] = {"strategy": "fp16", "target": "tensorrt", "dry_run": True}
    with pytest.warns(QDeployWarning, match=r"largest difference .* Try --strategy peg, or"):
        noise = build_engine(model, tmp_path / "e", **options)["noise"]
    assert noise["sources"] == [] and noise["remedy"] is None and noise["finite"]


@dataclass(frozen=True)
class Overflowing:
    """An engine of which some runs overflow."""

    engine: Engine

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        outputs = self.engine.run(feeds)
        outputs["logits"][0, 0] = np.inf
        return outputs


def test_outputs_that_are_not_finite_are_said(engine: Callable[..., Built], bert: Source) -> None:
    directory = engine(strategy="w8a8").directory
    observed = Statistics.load(bert.statistics)
    noise = measure_noise(
        bert.directory,
        directory,
        read_json(directory / "qdeploy.json"),
        measuring_sample(bert.directory, observed=observed),
        Overflowing(open_engine(directory)),
    )
    assert noise is not None
    assert not noise["finite"] and noise["sqnr_db"] is None and noise["max_abs_diff"] is None
    assert "gives outputs that are not finite on 16 rows of qnli-mini" in noise["warning"]
    assert json.dumps(noise, allow_nan=False)
    assert tables.noise(noise).endswith("outputs are not finite")


def test_it_can_be_left_out(
    bert: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(bert.directory), str(tmp_path / "e"), "--data", DATA, "--no-measure"]
    assert main(words) == 0
    assert "Against FP32" not in capsys.readouterr().out
    assert read_json(tmp_path / "e" / "qdeploy.json")["noise"] is None


def test_graph_and_plan_do_not_depend_on_the_measurement(bert: Source, tmp_path: Path) -> None:
    for name, measure in (("with", True), ("without", False)):
        build_engine(bert.directory, tmp_path / name, statistics=bert.statistics, measure=measure)
    for file in ("model.onnx", "plan.json"):
        assert (tmp_path / "with" / file).read_bytes() == (tmp_path / "without" / file).read_bytes()


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
@pytest.mark.parametrize(
    ("options", "simulated"),
    [
        ({"strategy": "dynamic"}, False),
        ({"strategy": "w8a8", "target": "openvino"}, False),
        ({"strategy": "peg", "target": "tensorrt", "dry_run": True}, True),
        ({"strategy": "fp16", "target": "tensorrt", "dry_run": True}, True),
        ({"strategy": "w8a8", "target": "ort-cuda", "dry_run": True}, True),
        ({"strategy": "peg", "scope": "all"}, False),
        ({"strategy": "w8a8", "weights": "per-tensor"}, False),
    ],
)
def test_every_strategy_and_target_is_measured(
    options: dict[str, Any], simulated: bool, bert: Source, tmp_path: Path
) -> None:
    if options.get("target") == "openvino":
        pytest.importorskip("openvino")
    calibrated = options["strategy"] not in ("dynamic", "fp16")
    statistics = bert.statistics if calibrated else None
    noise = build_engine(bert.directory, tmp_path / "e", statistics=statistics, **options)["noise"]
    assert noise["simulated"] == simulated and noise["finite"]
    assert noise["sqnr_db"] > (40 if options["strategy"] == "fp16" else 4)
    assert noise["rows"] == (16 if calibrated else SAMPLE_ROWS)


def test_one_noisy_site_is_found_and_its_remedy_holds(
    bert: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Statistics with one value that was far too large for a GEMM input: its steps are coarse."""
    model, _ = load_model(bert.directory)
    victim = find_structure(model).gemms[3].input
    damaged = Statistics.load(bert.statistics)
    site = damaged.sites[victim]
    spike = np.zeros((1, site.channels), np.float32)
    spike[0, 3] = 100 * site.maximum[3]
    site.update(spike)
    damaged.save(tmp_path / "coarse.npz")
    with pytest.warns(QDeployWarning, match="The logits stand") as caught:
        noise = build_engine(
            bert.directory, tmp_path / "e", statistics=tmp_path / "coarse.npz", strategy="w8a8"
        )["noise"]
    name = find_structure(model).by_tensor[victim].name
    assert noise["sources"][0]["site"] == name
    assert noise["remedy"]["float_sites"][0] == name and noise["remedy"]["sqnr_db"] >= FLOOR_DB
    text = next(str(w.message) for w in caught if "The logits stand" in str(w.message))
    assert f"Noisiest sites: {short_name(name)} (" in text and len(text) < 500
    assert "noisiest site" in text and "`qdeploy inspect -v` gives the option" in text
    assert main(["inspect", str(tmp_path / "e"), "-v"]) == 0
    told = re.search(r"--float-sites (\S+)\n", capsys.readouterr().out)
    assert told is not None
    mended = build_engine(
        bert.directory,
        tmp_path / "mended",
        statistics=tmp_path / "coarse.npz",
        strategy="w8a8",
        float_sites=told[1],
    )
    assert mended["noise"]["sqnr_db"] >= FLOOR_DB


def test_the_command_says_it(
    bert: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(bert.directory), str(tmp_path / "e"), "--data", DATA, "--json"]
    assert main([*words, str(tmp_path / "report.json")]) == 0
    noise = json.loads((tmp_path / "report.json").read_text())["noise"]
    said = " ".join(capsys.readouterr().out.split())  # lines are wrapped
    assert f"Against FP32 on {noise['rows']} rows of {DATA}: {noise['sqnr_db']:.1f} dB" in said
    assert f"{noise['flipped']} of {noise['answers']} answers change, largest difference" in said


# The rows


def test_the_rows_are_those_that_calibrated(bert: Source) -> None:
    observed = Statistics.load(bert.statistics)
    sample = measuring_sample(bert.directory, observed=observed)
    assert sample.source == DATA and sample.rows == 16
    rows = sum(len(batch["input_ids"]) for batch in sample.batches)
    assert rows == sample.rows and len(sample.first().batches) == 1


def test_statistics_from_elsewhere_fall_back_on_the_embedded_rows(
    bert: Source, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.tsv"
    lines = [f"who is {i}\tthe king {i}\tentailment" for i in range(20)]
    rows.write_text("\n".join(["question\tsentence\tlabel", *lines]) + "\n")
    statistics = qdeploy.calibrate(
        shutil.copytree(bert.directory, tmp_path / "model"), data=str(rows), calibration_rows=20
    )
    observed = Statistics.load(statistics)
    assert measuring_sample(bert.directory, observed=observed).source == str(rows)
    rows.unlink()
    sample = measuring_sample(bert.directory, observed=observed)
    assert sample.source == DATA and sample.rows == SAMPLE_ROWS
    assert measuring_sample(bert.directory, observed=None).source == DATA


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
def test_heads_of_tokens_are_measured_without_the_padding(
    task: str, exported: Exports, tmp_path: Path
) -> None:
    shutil.copytree(exported(task=task).model_dir, tmp_path / "model")
    noise = qdeploy.build(tmp_path / "model", tmp_path / "e", data=DATA)["noise"]
    observed = Statistics.load(next((tmp_path / "model" / "statistics").glob("*.npz")))
    sample = measuring_sample(tmp_path / "model", observed=observed)
    own = sum(int(batch["attention_mask"].sum()) for batch in sample.batches)
    assert noise["answers"] == (own if task.startswith("token") else sample.rows)
