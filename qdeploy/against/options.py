"""The options of a comparison of two files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdeploy import common_options as common
from qdeploy.options import DATA, Options, option
from qdeploy.types import PathLike

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns

AGAINST = "Against an FP32 file"  # heading of help


@dataclass(frozen=True)
class AgainstOptions(Options):
    """On which rows a quantized file is held against its FP32 file, and what is built beside.

    `columns` may be `qdeploy.data.Columns` too.
    """

    data: PathLike | None = option(
        None,
        f"Rows that both files answer: {common.ROW_FILES}, a GLUE directory, hub:NAME, or"
        " qnli-mini.",
        group=DATA,
        metavar="DATA",
    )
    task: str = common.task()
    columns: Columns | str | None = common.columns()
    limit: int | None = option(
        None, "Only the first N rows.", group=DATA, number=int, least=1, metavar="N"
    )
    max_length: int | None = common.max_length()
    tokenizer: PathLike | None = option(
        None,
        "Directory of tokenizer.json and config.json. Looked for beside either file, and above its"
        " folder onnx, when left out.",
        group=AGAINST,
        is_path=True,
        metavar="DIR",
    )
    rebuild: PathLike | None = option(
        None,
        "Build an engine for ort-cpu from the FP32 model into this directory, on rows that are not"
        " compared, and put it beside the two, timed too.",
        group=AGAINST,
        is_path=True,
        metavar="ENGINE_DIR",
    )
    strategy: str = option(
        "peg",
        "Strategy of --rebuild.",
        group=AGAINST,
        choices="qdeploy.calibrate.strategies:STRATEGIES",
    )
    batch_size: int = common.batch_size()
    threads: int | None = common.threads()
    seed: int = common.seed()
