"""The options of an evaluation, and of answering a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdeploy import common_options as common
from qdeploy.errors import DataError, PlanError
from qdeploy.options import DATA, GENERAL, LATENCY, MEASURED, OUTPUT, Options, nested, option
from qdeploy.types import PathLike

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns

EMBEDDING, QUESTIONS, TAGS = "Embeddings", "Question answering", "Tags"  # headings of help


@dataclass(frozen=True)
class SpanOptions(Options):
    """How the answer of a question is found in its context."""

    max_answer_length: int = option(
        30, "Most tokens of an answer.", group=QUESTIONS, number=int, least=1, metavar="N"
    )
    no_answer_threshold: float = option(
        0.0,
        "How far the logits of no answer must be above those of the best answer, as of SQuAD 2.0.",
        group=QUESTIONS,
        number=float,
        least=-1000,
        most=1000,
        metavar="LOGITS",
    )
    stride: int | None = option(
        None,
        "Tokens of a long context that stand in two neighbouring windows. 128, and half a window at"
        " most, when left out.",
        group=QUESTIONS,
        number=int,
        least=0,
        metavar="N",
    )


@dataclass(frozen=True)
class EvalOptions(Options):
    """What is measured of an engine, and how.

    `columns` may be `qdeploy.data.Columns` too. `seed` is of the latency's rows and of the
    bootstrap.
    """

    task: str = common.task()
    data: PathLike | None = option(
        None,
        f"Evaluation rows: {common.ROW_FILES}, a GLUE directory, hub:NAME,"
        " or qnli-mini. When left out: what the engine was built with, without the rows that"
        " calibrated it; else qnli-mini.",
        group=DATA,
        metavar="DATA",
    )
    columns: Columns | str | None = common.columns()
    label_separator: str | None = option(
        None,
        "Multi-label rows: what stands between the classes in a cell of the label, such as '|'. A"
        " cell is one class when left out.",
        group=DATA,
        metavar="TEXT",
    )
    threshold: float | None = common.threshold()
    baseline: PathLike | None = option(
        None,
        "Compare with this engine; rounds of the two alternate. fp32 and fp16 are built from the"
        " engine's model, as ENGINE_DIR-fp32, where they are not there.",
        group=MEASURED,
        is_path=True,
        metavar="[fp32|fp16|ENGINE_DIR]",
    )
    model: PathLike | None = option(
        None,
        "The model to build --baseline fp32 from. Looked for beside the engine when left out.",
        group=MEASURED,
        is_path=True,
        metavar="MODEL_DIR",
    )
    limit: int | None = option(
        None, "Only the first N rows.", group=DATA, number=int, least=1, metavar="N"
    )
    max_length: int | None = common.max_length()
    batch_size: int = common.batch_size()
    seq_len: int | None = option(
        None,
        "Tokens per row of the latency; 128, or what the model takes, when left out. What accuracy"
        " keeps is --max-length.",
        group=LATENCY,
        number=int,
        least=2,
        metavar="N",
    )
    warmup: int | None = option(
        None,
        "Runs before the timed ones, exactly so many. At most 100, as --seconds allow, when left"
        " out.",
        group=LATENCY,
        number=int,
        least=0,
        metavar="N",
    )
    iterations: int | None = option(
        None,
        "Timed runs of each engine, exactly so many. At most 500, as --seconds allow, and at least"
        " 6 when left out.",
        group=LATENCY,
        number=int,
        least=1,
        metavar="N",
    )
    seconds: float | None = option(
        None,
        "Time for all runs of the latency, of the engine and its baseline. 30 when left out.",
        group=LATENCY,
        number=float,
        least=0,
        metavar="S",
    )
    threads: int | None = common.threads()
    latency: bool = option(True, "Leave the latency out.", group=MEASURED, off="--no-latency")
    traffic: bool = option(
        True,
        "Time the fixed shape alone, not batches of the data's own lengths.",
        group=MEASURED,
        off="--no-traffic",
    )
    accuracy: bool = option(True, "Leave the accuracy out.", group=MEASURED, off="--no-accuracy")
    max_drop: float | None = common.max_drop(
        "Most points of accuracy, or of the task's or head's own metric, that may be lost against"
        " --baseline; of embeddings without scores, of its ten nearest texts."
    )
    require_int8: float | None = common.require_int8()
    spans: SpanOptions = nested(SpanOptions)
    simulate: bool = option(
        False,
        "Run the graph of a --dry-run on the CPU, for its accuracy alone.",
        group=MEASURED,
    )
    seed: int = common.seed()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds is not None and self.iterations is not None:
            raise PlanError(
                "--seconds bounds runs whose number is left open, and --iterations names it. Leave "
                "one of the two out."
            )
        if self.simulate and not self.accuracy:
            raise PlanError("A simulation measures accuracy alone. Leave --no-accuracy out.")

    @property
    def timed(self) -> bool:
        """Whether the latency is measured."""
        return self.latency and not self.simulate


@dataclass(frozen=True)
class PredictOptions(Options):
    """How the rows of a file are answered."""

    out: PathLike | None = option(
        None,
        "File for the answers, written whole or not at all. Standard output when it is - or left"
        " out.",
        group=OUTPUT,
        is_path=True,
        metavar="FILE",
    )
    format: str | None = option(
        None,
        "What FILE holds. By its suffix when left out, and jsonl for standard input.",
        group=DATA,
        choices="qdeploy.data.incoming:FORMATS",
        error=DataError,
    )
    output_format: str = option(
        "jsonl",
        "How answers are written.",
        group=OUTPUT,
        choices="qdeploy.evaluate.answer_lines:OUTPUT_FORMATS",
    )
    columns: str | None = option(
        None,
        "Column of the text, or the two of a pair. Columns with usual names when left out.",
        group=DATA,
        metavar="COLUMN[,COLUMN]",
    )
    keep: str | None = option(
        None,
        "Columns of the input that go with the answers.",
        group=OUTPUT,
        metavar="[all|COLUMN,...]",
    )
    logits: bool = option(False, "Put the raw outputs beside the answers.", group=OUTPUT)
    prompt_name: str | None = option(
        None,
        "Embedding models: the prompt of the checkpoint that stands in front of each text. Its"
        " default, if it has one, when left out.",
        group=EMBEDDING,
        metavar="NAME",
    )
    output_precision: str = option(
        "float32",
        "Embedding models: what an embedding is written as. binary packs the signs of eight"
        " dimensions into a byte.",
        group=EMBEDDING,
        choices="qdeploy.evaluate.embeddings:PRECISIONS",
    )
    truncate_dim: int | None = option(
        None,
        "Embedding models: dimensions kept, the first ones, for models that were trained for it"
        " (Matryoshka). All when left out.",
        group=EMBEDDING,
        number=int,
        least=1,
        metavar="N",
    )
    threshold: float | None = common.threshold(OUTPUT)
    handle_impossible_answer: bool = option(
        False,
        "Answer with an empty text where a context holds no answer, for models of SQuAD 2.0.",
        group=QUESTIONS,
    )
    spans: SpanOptions = nested(SpanOptions)
    aggregation_strategy: str = option(
        "none",
        "Token classifiers: how tokens become entities, as in transformers' pipeline. none tells"
        " each token; simple joins neighbours of one type; first, average and max let the tokens of"
        " a word agree beforehand.",
        group=TAGS,
        choices="qdeploy.evaluate.aggregation:STRATEGIES",
    )
    batch_size: int = common.batch_size(GENERAL)
    max_length: int | None = option(
        None,
        "Tokens kept of a row. What the model takes when left out.",
        group=DATA,
        number=int,
        least=1,
        metavar="N",
    )
    threads: int | None = common.threads()
