"""INT8 engines of every head, on both CPU targets, for tests of what runs them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.calibrate.run import calibrate_model
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.directory import write_guides
from qdeploy.files.artifact import read_json, read_manifest
from qdeploy.head import SPANS, TOKENS
from tests import manifests
from tests.evaluate.heads import head_checkpoint
from tests.tiny import tiny_checkpoint

TARGETS = ("ort-cpu", "openvino")
LONG = "what is the name of the city by the river in the north " * 12
TEXTS = ["the river", LONG, "king", "who was first in the old city", "zzz unseen ⊕ words", "war"]
MULTI, REGRESSION = "multi_label_classification", "regression"
IDENTITY = "torch.nn.modules.linear.Identity"
# Name → labels, and what the manifest says of the head.
HEADS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "classes": (("no", "yes", "maybe"), {}),
    "multi": (("no", "yes", "maybe"), {"problem_type": MULTI}),
    "values": (("no", "yes", "maybe"), {"problem_type": REGRESSION}),
    "logit": (("score",), {}),
    "value": (("score",), {"problem_type": REGRESSION}),
    "cross-encoder": (("score",), {"activation": IDENTITY}),
}
Engines = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """INT8 engine of a head on a target; exports and builds are made once, and shared."""
    models: dict[str, tuple[Path, Path]] = {}
    made: dict[tuple[str, str], Path] = {}

    def model(kind: str) -> tuple[Path, Path]:
        """Model directory and statistics."""
        if kind not in models:
            home = tmp_path_factory.mktemp("model")
            if kind in (TOKENS, SPANS):
                tiny_checkpoint(home / "it", task=kind)
            elif kind == "roberta":
                tiny_checkpoint(home / "it", "roberta")
            else:
                head_checkpoint(home / "it", HEADS[kind][0])
            qdeploy.export(home / "it", home / "model")
            if kind == "roberta":
                config = read_json(home / "model" / "tokenizer_config.json")
                config |= {"truncation_side": "left", "padding_side": "left"}
                (home / "model" / "tokenizer_config.json").write_text(json.dumps(config))
                manifests.sign(home / "model")
            models[kind] = (
                home / "model",
                calibrate_model(home / "model", data="qnli-mini", calibration_rows=8),
            )
        return models[kind]

    def engine(kind: str, target: str) -> Path:
        if (kind, target) not in made:
            graph = {"multi": "classes", "values": "classes", "value": "logit"}
            graph["cross-encoder"] = "logit"
            directory = tmp_path_factory.mktemp("engine") / kind
            if kind in graph:  # the same graph, of which the checkpoint says something else
                shutil.copytree(engine(graph[kind], target), directory)
                head = {**(read_manifest(directory, "engine")["head"] or {}), **HEADS[kind][1]}
                manifests.edit(directory, "engine", head=head)
                fields = read_manifest(directory, "engine")
                write_guides(directory, fields, read_certificate(directory))
                manifests.sign(directory)
            else:
                source, statistics = model(kind)
                options: dict[str, Any] = {"statistics": statistics, "measure": False}
                build_engine(source, directory, strategy="w8a8", target=target, **options)
            made[kind, target] = directory
        return made[kind, target]

    return engine


def needs(target: str) -> None:
    """Skip where the target's package is not installed."""
    if target == "openvino":
        pytest.importorskip("openvino")
