"""What an encoder's head can do, and how a checkpoint says which of it is its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qdeploy.errors import CheckpointError, choose
from qdeploy.head import EMBEDDINGS


@dataclass(frozen=True)
class Task:
    """One kind of head.

    Attributes:
        name: the word of `--task` and of the manifest.
        suffix: how the names of transformers' classes for it end; "" is the encoder alone.
        peft_type: the word of PEFT's `task_type`.
        outputs: output names of the graph; all FP32, [B, classes], [B, S, classes], [B, S]; of
            embeddings [B, S, H] and [B, D].
    """

    name: str
    suffix: str
    peft_type: str
    outputs: tuple[str, ...]

    @property
    def auto_class(self) -> str:
        """Name of the transformers class that loads it."""
        return f"AutoModel{self.suffix}"


TASKS = (
    Task("sequence-classification", "ForSequenceClassification", "SEQ_CLS", ("logits",)),
    Task("token-classification", "ForTokenClassification", "TOKEN_CLS", ("logits",)),
    Task(
        "question-answering",
        "ForQuestionAnswering",
        "QUESTION_ANS",
        ("start_logits", "end_logits"),
    ),
    # In the names of Optimum's exports, which sentence-transformers and
    # text-embeddings-inference read.
    Task(EMBEDDINGS, "", "FEATURE_EXTRACTION", ("sentence_embedding", "token_embeddings")),
)
_NAMES = tuple(task.name for task in TASKS)
_GENERATIVE = ("CAUSAL_LM", "SEQ_2_SEQ_LM")


def task_of(
    name: str,
    config: Mapping[str, object],
    adapter: Mapping[str, object] | None,
    asked: str | None,
    *,
    embeds: bool = False,
) -> Task:
    """The task of a checkpoint.

    Args:
        name: the checkpoint, for the text.
        config: its `config.json`.
        adapter: its `adapter_config.json`, or None.
        asked: the user's `--task`, or None to take it from the checkpoint.
        embeds: how its vectors are pooled is known, from its files or from the user.

    Raises:
        CheckpointError: an unknown task, a generative one, or none that the checkpoint tells.
    """
    if adapter is not None and adapter.get("task_type") in _GENERATIVE:
        raise CheckpointError(
            f"{name} is an adapter of a generative task ({adapter['task_type']}), and qdeploy "
            f"exports encoders with a head for {', '.join(_NAMES)}. Fine-tune an adapter with "
            'task_type="SEQ_CLS", "TOKEN_CLS" or "QUESTION_ANS".'
        )
    if asked is not None:
        task = TASKS[_NAMES.index(choose("task", asked, _NAMES, CheckpointError))]
        if task.name == EMBEDDINGS and not embeds:
            raise CheckpointError(
                f"{name} has no modules.json of sentence-transformers, so how the vectors of its "
                "tokens become one is not known. Say it with --pooling mean, or --pooling cls."
            )
        return task
    if embeds:
        return TASKS[_NAMES.index(EMBEDDINGS)]
    if adapter is not None:
        for task in TASKS:
            if adapter.get("task_type") == task.peft_type:
                return task
    return _task_of_architecture(name, config)


def _task_of_architecture(name: str, config: Mapping[str, object]) -> Task:
    listed = config.get("architectures") or []
    architectures = [str(a) for a in (listed if isinstance(listed, list) else [listed])]
    for task in TASKS:
        # XLM and XLNet answer by beam search, or with "Simple" as every other family does
        if task.suffix and any(
            a.removesuffix("Simple").endswith(task.suffix) for a in architectures
        ):
            return task
    if not architectures:
        raise CheckpointError(
            f"{name} does not say what its head is for: config.json has no 'architectures'. Pass "
            f"--task with one of: {', '.join(_NAMES)}."
        )
    raise CheckpointError(
        f"{name} is a {architectures[0]}, which has no head that was trained for "
        f"{' or '.join(_NAMES[:-1])}. Fine-tune it first and pass the fine-tuned checkpoint or its "
        "PEFT adapter; if config.json is wrong about that, pass --task. If it embeds texts, say "
        "how the vectors of its tokens become one: --pooling mean, or --pooling cls."
    )
