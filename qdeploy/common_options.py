"""Options that several commands have, so that each is explained once."""

from __future__ import annotations

from qdeploy.options import DATA, GATES, GENERAL, MEASURED, option
from qdeploy.types import PathLike

LARGEST_SEED = 2**32 - 1  # numpy and torch both take these


def task() -> str:
    """--task."""
    return option(
        "auto",
        "What the rows of --data ask for, and so which columns hold their text. auto takes it from"
        " the names of the columns, or as an earlier command was told.",
        group=DATA,
        choices="qdeploy.data.infer:TASK_NAMES",
    )


def columns() -> str | None:
    """--columns."""
    return option(
        None,
        "Columns of --data under other names: text=comment,label=rating, or for pairs"
        " text=question,text_pair=answer,label=gold. Columns of 0 and 1, one for each class, are"
        " labels=toxic+obscene+threat.",
        group=DATA,
        metavar="NAME=COLUMN,...",
    )


ROW_FILES = "a TSV, CSV, JSONL, Parquet or CoNLL file, SQuAD's .json"  # of --data


def calibration_data() -> PathLike | None:
    """--data of commands that calibrate."""
    return option(
        None,
        f"Calibration rows: {ROW_FILES}, a GLUE directory, hub:NAME, or"
        " qnli-mini. When left out: what the model was calibrated on last, else qnli-mini.",
        group=DATA,
        metavar="DATA",
    )


def calibration_rows() -> int:
    """--calibration-rows."""
    return option(128, "Rows to calibrate on.", group=DATA, number=int, least=1, metavar="N")


def max_length() -> int | None:
    """--max-length."""
    return option(
        None,
        "Tokens kept of a row. The model's own limit, at most 512, when left out.",
        group=DATA,
        number=int,
        least=1,
        metavar="N",
    )


def statistics() -> PathLike | None:
    """--statistics."""
    return option(
        None,
        "Use these statistics of `qdeploy calibrate` instead of calibrating.",
        group=DATA,
        is_path=True,
        metavar="FILE",
    )


def seed() -> int:
    """--seed."""
    return option(
        0,
        "Seed of everything random.",
        group=GENERAL,
        number=int,
        least=0,
        most=LARGEST_SEED,
        metavar="N",
    )


def threads() -> int | None:
    """--threads."""
    return option(
        None,
        "Threads that an engine may use. The cores that the process may use when left out.",
        group=GENERAL,
        number=int,
        least=1,
        metavar="N",
    )


def batch_size(group: str = MEASURED) -> int:
    """--batch-size."""
    return option(8, "Rows per run.", group=group, number=int, least=1, metavar="N")


def require_int8() -> float | None:
    """--require-int8."""
    return option(
        None,
        "Least share of the FLOPs of all constant-weight products that runs in INT8 (strategy fp8:"
        " in FP8).",
        group=GATES,
        number=float,
        least=0,
        most=1,
        metavar="SHARE",
    )


def max_drop(help: str, group: str = GATES) -> float | None:
    """--max-drop: points of accuracy."""
    return option(None, help, group=group, number=float, least=0, most=100, metavar="POINTS")


def threshold(group: str = MEASURED) -> float | None:
    """--threshold."""
    return option(
        None,
        "Multi-label classifiers: the probability above which a class is there. 0.5 when left out.",
        group=group,
        number=float,
        least=0,
        most=1,
        metavar="SHARE",
    )


def ray_address() -> str | None:
    """--ray-address."""
    return option(
        None,
        "Share the work out over this Ray cluster; auto is the one of this machine.",
        group=GENERAL,
        metavar="[auto|ADDRESS]",
    )
