"""The engine that is laid out, and the files that most formats have in common."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import PlanError
from qdeploy.files.artifact import read_json, write_json
from qdeploy.files.scratch import scratch
from qdeploy.head import CONFIG, Head, default_prompt
from qdeploy.schemas.manifest import EngineManifest

if TYPE_CHECKING:
    import onnx_ir as ir

TOKENIZER, TOKENIZER_CONFIG, SCRIPT = "tokenizer.json", "tokenizer_config.json", "predict.py"
OPENVINO = "openvino"


@dataclass(frozen=True)
class Source:
    """An engine directory.

    Attributes:
        directory: the engine's.
        manifest: its qdeploy.json.
        head: what its outputs mean.
    """

    directory: Path
    manifest: EngineManifest
    head: Head

    @property
    def is_openvino(self) -> bool:
        """Whether it is for OpenVINO; other engines that are bundled run in ONNX Runtime."""
        return self.manifest["target"] == OPENVINO

    @property
    def ov_config(self) -> dict[str, str]:
        """What OpenVINO has to be told: by itself it computes in BF16 where a processor can."""
        return {"INFERENCE_PRECISION_HINT": self.manifest["rest_precision"]}


def copy_tokenizer(source: Source, work: Path, *, for_python: bool = True) -> None:
    """`config.json` and the tokenizer, as transformers reads them.

    Args:
        work: the bundle.
        for_python: transformers itself reads them, 4 or 5. What 5 saves names a class and a list
            that 4, which Optimum wants, does not know; and of a class of one model, 4 builds a part
            of tokenizer.json anew. Both take tokenizer.json as it is under the names given here.
    """
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(source.directory / name, work / name)
    config: dict[str, Any] = {}
    if (source.directory / TOKENIZER_CONFIG).is_file():
        config = dict(read_json(source.directory / TOKENIZER_CONFIG))
    config |= {"model_max_length": source.manifest["max_length"]}
    config |= {"model_input_names": list(source.manifest["inputs"])}
    if for_python:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(config.get("extra_special_tokens"), list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
    write_json(work / TOKENIZER_CONFIG, config)


def write_graph(source: Source, place: Path, outputs: Mapping[str, str]) -> None:
    """The engine's graph with outputs under other names, as ONNX or as OpenVINO's own form.

    Args:
        place: `….onnx`, or `….xml` of an engine for OpenVINO.
        outputs: the new name of each output that is kept, by its own.

    Raises:
        PackageError: OpenVINO is not installed.
    """
    import onnx_ir as ir

    place.parent.mkdir(parents=True, exist_ok=True)
    model = ir.load(source.directory / "model.onnx")
    _rename_outputs(model, outputs)
    if place.suffix == ".xml":
        _write_openvino(model, place)
        return
    data = "model.onnx.data"
    apart = (source.directory / data).is_file()
    ir.save(model, place, external_data=f"{place.name}.data" if apart else None)


def _rename_outputs(model: ir.Model, outputs: Mapping[str, str]) -> None:
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph = model.graph
    kept = [value for value in graph.outputs if value.name in outputs]
    graph.outputs.clear()
    for value in kept:
        value.name = outputs[str(value.name)]
        graph.outputs.append(value)
    RemoveUnusedNodesPass()(model)


def _write_openvino(model: ir.Model, place: Path) -> None:
    from qdeploy.machine.remedies import require

    require("openvino")
    import onnx_ir as ir
    import openvino

    with scratch("bundle") as folder:
        path = folder / "model.onnx"
        ir.save(model, path, external_data="model.onnx.data")
        openvino.save_model(openvino.Core().read_model(path), place, compress_to_fp16=False)


def refuse(source: Source, form: str, *, heads: tuple[str, ...]) -> None:
    """Refuse an engine that a format does not take.

    Raises:
        PlanError: a target that compiles, or another head.
    """
    target, task = source.manifest["target"], source.head.task
    if target not in ("ort-cpu", OPENVINO):
        raise PlanError(
            f"{source.directory} is an engine for {target}, and {form} loads those for ort-cpu and "
            "openvino. Build it for one of these."
        )
    if task not in heads:
        raise PlanError(
            f"{source.directory} is a {source.head.description}, and {form} is for "
            f"{', '.join(heads)}."
        )


def refuse_scriptless(source: Source) -> None:
    """Refuse an engine without a `predict.py`, which some formats serve.

    Raises:
        PlanError: its target has none, or it is of a version that wrote none.
    """
    if TARGETS[source.manifest["target"]].script is None:
        raise PlanError(
            f"{source.directory} is an engine for {source.manifest['target']}, which has no "
            f"{SCRIPT}. Build it for ort-cpu or openvino."
        )
    if not (source.directory / SCRIPT).is_file():
        raise PlanError(
            f"{source.directory} has no {SCRIPT}: it is of an earlier version. Build it again."
        )


def refuse_prompt(source: Source, form: str) -> None:
    """Refuse a default prompt where nobody would put it in front of texts.

    Raises:
        PlanError: naming it.
    """
    if prompt := default_prompt(source.manifest):
        raise PlanError(
            f"{source.directory} puts {json.dumps(prompt)} in front of every text, which {form} "
            "does not know. Take sentence-transformers, or put it in front of your texts."
        )
