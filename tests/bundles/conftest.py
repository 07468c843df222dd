"""Engines that are laid out, of every head that has a format."""

from __future__ import annotations

from pathlib import Path

import pytest

import qdeploy
from tests.evaluate.heads import head_checkpoint
from tests.once import Once
from tests.sentence_models import sentence_checkpoint

TEXTS = ["the river of the north", "king", "what is the name of the old city", "war and music"]


@pytest.fixture(scope="session")
def engines(once: Once) -> Path:
    """Folder of engines `<head>-<target>` in INT8; not to be changed."""

    def make(home: Path) -> None:
        more = {"prompts": {"query": "what is "}, "similarity_fn_name": "dot"}
        sentence_checkpoint(home / "embeds-checkpoint", more=more)
        sentence_checkpoint(home / "dense-checkpoint", parts=("Dense", "Normalize"))
        more = {"prompts": {"query": "what is "}, "default_prompt_name": "query"}
        sentence_checkpoint(home / "prompted-checkpoint", more=more, pooling="cls")
        head_checkpoint(home / "reranker-checkpoint", ["LABEL_0"])
        head_checkpoint(home / "classes-checkpoint", ["bad", "good"])
        for head in ("embeds", "dense", "prompted", "reranker", "classes"):
            qdeploy.export(home / f"{head}-checkpoint", home / head)
            for target in ("ort-cpu", "openvino"):
                if target == "openvino" and head in ("dense", "prompted"):
                    continue
                place = home / f"{head}-{target}"
                qdeploy.build(home / head, place, strategy="w8a8", target=target, measure=False,
                              data="qnli-mini", calibration_rows=16)  # fmt: skip

    pytest.importorskip("openvino")
    return once("bundled", 1, make)[0]
