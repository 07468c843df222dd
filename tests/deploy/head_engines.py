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
from tests.exports import Exports
from tests.once import Once

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


# The same graph, of which the checkpoint says something else.
SAME_GRAPH = {"multi": "classes", "values": "classes", "value": "logit", "cross-encoder": "logit"}


@pytest.fixture(scope="session")
def engines(once: Once, exported: Exports) -> Engines:
    """INT8 engine of a head on a target; exports and builds are made once, and shared."""

    def make_model(home: Path, kind: str) -> Path:
        """`model` and the path of its statistics."""
        if kind in HEADS:
            head_checkpoint(home / "it", HEADS[kind][0])
            qdeploy.export(home / "it", home / "model")
        else:
            same = exported(task=kind) if kind in (TOKENS, SPANS) else exported(kind)
            shutil.copytree(same.model_dir, home / "model")
        if kind == "roberta":
            config = read_json(home / "model" / "tokenizer_config.json")
            config |= {"truncation_side": "left", "padding_side": "left"}
            (home / "model" / "tokenizer_config.json").write_text(json.dumps(config))
            manifests.sign(home / "model")
        return calibrate_model(home / "model", data="qnli-mini", calibration_rows=8)

    def make(home: Path, kind: str, target: str) -> None:
        directory = home / kind
        if kind in SAME_GRAPH:
            shutil.copytree(engine(SAME_GRAPH[kind], target), directory)
            head = {**(read_manifest(directory, "engine")["head"] or {}), **HEADS[kind][1]}
            manifests.edit(directory, "engine", head=head)
            fields = read_manifest(directory, "engine")
            write_guides(directory, fields, read_certificate(directory))
            manifests.sign(directory)
        else:
            model, statistics = once("head-model", kind, lambda home: make_model(home, kind))
            options: dict[str, Any] = {"statistics": statistics, "measure": False}
            build_engine(model / "model", directory, strategy="w8a8", target=target, **options)

    def engine(kind: str, target: str) -> Path:
        home, _ = once("head-engine", (kind, target), lambda home: make(home, kind, target))
        return home / kind

    return engine


def needs(target: str) -> None:
    """Skip where the target's package is not installed."""
    if target == "openvino":
        pytest.importorskip("openvino")
