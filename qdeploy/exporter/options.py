"""The options of an export."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy import common_options as common
from qdeploy.errors import CheckpointError
from qdeploy.options import Options, option
from qdeploy.types import PathLike

HEAD, TRUST = "What the model is for", "What the checkpoint may do"


@dataclass(frozen=True)
class ExportOptions(Options):
    """How a checkpoint is read."""

    task: str | None = option(
        None,
        "What the head does. Taken from the checkpoint's files when left out.",
        group=HEAD,
        choices="qdeploy.head:TASKS",
        error=CheckpointError,
    )
    pooling: str | None = option(
        None,
        "Makes an embedding model of an encoder without a head: how the vectors of its tokens"
        " become one. A sentence-transformers directory says so itself.",
        group=HEAD,
        choices="qdeploy.sentence_layout:POOLING_MODES",
        error=CheckpointError,
    )
    tokenizer: PathLike | None = option(
        None,
        "Directory with the tokenizer and config.json of an ONNX file. Beside the file, or above"
        " its onnx/, when left out.",
        group=HEAD,
        metavar="DIR",
    )
    allow_pickle: bool = option(
        False, "Read pickled weights, which can run code of their author.", group=TRUST
    )
    trust_remote_code: bool = option(
        False, "Run the modelling code the checkpoint brings along.", group=TRUST
    )
    seed: int = common.seed()
