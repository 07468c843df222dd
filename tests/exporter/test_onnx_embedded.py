"""The embedded checkpoint as the ONNX file that most of the hub has: the same engine comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

import qdeploy
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.loading import load_model
from qdeploy.exporter.tasks import TASKS
from qdeploy.exporter.tokenizer import load_tokenizer
from qdeploy.files.artifact import read_json
from qdeploy.models import embedded
from tests import foreign_files as foreign
from tests.tiny import no_progress_bar

pytestmark = [pytest.mark.slow, pytest.mark.integration]
GEMMS = 36
NEAR = 1.0  # dB


def test_the_same_sites_int8_and_noise_as_its_checkpoint(tmp_path: Path) -> None:
    found = find_checkpoint(embedded.NAME)
    merged = tmp_path / "merged"
    with no_progress_bar():
        load_model(found, TASKS[0]).save_pretrained(merged)
    load_tokenizer(found).save_pretrained(merged)
    file = foreign.torchscript(merged, tmp_path / "model.onnx")
    qdeploy.export(file, tmp_path / "foreign", tokenizer=merged)
    qdeploy.export(embedded.NAME, tmp_path / "own")

    built, sites = {}, {}
    for name in ("foreign", "own"):
        engine = tmp_path / f"{name}-peg"
        qdeploy.build(tmp_path / name, engine, strategy="peg", target="ort-cpu", data="qnli-mini")
        built[name] = read_json(engine / "qdeploy.json")["noise"]
        sites[name] = [site["name"] for site in read_json(engine / "plan.json")["sites"]]
    assert sites["foreign"] == sites["own"]
    for name in ("foreign", "own"):
        int8 = read_json(tmp_path / f"{name}-peg" / "certificate.json")["int8"]
        assert (int8["executed"], int8["planned"]) == (GEMMS, GEMMS)
    noise = [built[name]["sqnr_db"] for name in ("foreign", "own")]
    assert abs(noise[0] - noise[1]) <= NEAR
