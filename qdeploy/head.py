"""What the outputs of a head mean: which function makes scores of its logits, and its class names.

The rules are those of transformers' TextClassificationPipeline (5.23, `postprocess`), so that an
engine says what the checkpoint's own pipeline says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdeploy.errors import PlanError, choose
from qdeploy.schemas.manifest import EmbeddingFacts, HeadFacts, Interface

CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
SOFTMAX, SIGMOID, NONE = "softmax", "sigmoid", "none"
FUNCTIONS = (SOFTMAX, SIGMOID, NONE)
REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"
SEQUENCES, TOKENS, SPANS = "sequence-classification", "token-classification", "question-answering"
EMBEDDINGS = "sentence-embedding"
# What answers texts, of `qdeploy.load`.
METHODS = {SEQUENCES: "predict", TOKENS: "entities", EMBEDDINGS: "encode", SPANS: "answer"}
TASKS = (SEQUENCES, TOKENS, SPANS, EMBEDDINGS)
# The outputs that answer, by task: an engine may have others beside them.
_ANSWERS = {
    SEQUENCES: ("logits",),
    TOKENS: ("logits",),
    SPANS: ("start_logits", "end_logits"),
    EMBEDDINGS: ("sentence_embedding",),
}

_DESCRIPTIONS = {
    TOKENS: "token classifier",
    SPANS: "question answering model",
    EMBEDDINGS: "sentence embedding model",
}

# What sentence-transformers' CrossEncoder may write into config.json; classes are never imported.
_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": NONE,
    "torch.nn.Identity": NONE,
    "torch.nn.modules.activation.Sigmoid": SIGMOID,
    "torch.nn.Sigmoid": SIGMOID,
}


@dataclass(frozen=True)
class Head:
    """The head of a model.

    Attributes:
        task: one of `TASKS`.
        labels: class names by index, no two alike; none of embeddings.
        problem_type: as in config.json: "regression", "single_label_classification",
            "multi_label_classification", or None where it does not say.
        function_to_apply: as in config.json; transformers' pipelines do not obey it.
        activation: the class that a cross-encoder's config.json names, or None.
        embedding: of an embedding model: how texts become vectors; None of other heads.
    """

    task: str
    labels: tuple[str, ...]
    problem_type: str | None = None
    function_to_apply: str | None = None
    activation: str | None = None
    embedding: EmbeddingFacts | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """The outputs that answer."""
        return _ANSWERS[self.task]

    @property
    def of_rows(self) -> bool:
        """Whether its answers are of whole rows, [B, …]; else of tokens, [B, S, …]."""
        return self.task in (SEQUENCES, EMBEDDINGS)

    @property
    def chooses(self) -> bool:
        """Whether exactly one class of a whole row is its answer: what accuracy is about."""
        values = self.problem_type in (REGRESSION, MULTI_LABEL) or len(self.labels) < 2
        return self.task == SEQUENCES and not values

    @property
    def exclusive(self) -> bool:
        """Whether its logits compete for one answer: of a row, of a token, of a span's end."""
        return self.chooses or not self.of_rows

    @property
    def ranks(self) -> bool:
        """Whether texts are put in order by its answers: by one logit, or by their embeddings."""
        one_logit = self.task == SEQUENCES and len(self.labels) == 1
        return self.task == EMBEDDINGS or one_logit

    @property
    def description(self) -> str:
        """What it is, for a reader: "multi-label classifier"."""
        if self.task != SEQUENCES:
            return _DESCRIPTIONS[self.task]
        if self.problem_type == REGRESSION:
            return "regression"
        if self.problem_type == MULTI_LABEL:
            return "multi-label classifier"
        return "classifier" if self.chooses else "model with one logit"

    def score_function(self, asked: str | None = None) -> str:
        """Which of `FUNCTIONS` makes scores of the logits of a sequence classifier.

        A regression's values stay as they are; labels that do not exclude each other get a sigmoid
        each; a single logit gets one too, unless the activation of a cross-encoder says otherwise;
        several classes get a softmax.

        Args:
            asked: the caller's own choice, or None for the checkpoint's.

        Raises:
            PlanError: an unknown choice, or a cross-encoder with a function of its own.
        """
        if asked is not None:
            return choose("function_to_apply", asked, FUNCTIONS, PlanError)
        if self.problem_type == REGRESSION:
            return NONE
        if self.problem_type == MULTI_LABEL:
            return SIGMOID
        if len(self.labels) > 1:
            return SOFTMAX
        if self.activation is None:
            return SIGMOID
        if str(self.activation) not in _ACTIVATIONS:
            raise PlanError(
                f"config.json names the activation {self.activation}, and only Identity and "
                "Sigmoid of torch.nn are known. Pass function_to_apply='sigmoid' or 'none' to "
                "predict(), or call logits()."
            )
        return _ACTIVATIONS[str(self.activation)]


def head_facts(config: Mapping[str, object]) -> HeadFacts:
    """What a `config.json` says of the head beside its class names, for a manifest."""
    cross_encoder = config.get("sentence_transformers")
    found = cross_encoder.get("activation_fn") if isinstance(cross_encoder, Mapping) else None
    return {
        "problem_type": _word(config.get("problem_type")),
        "function_to_apply": _word(config.get("function_to_apply")),
        "activation": _word(found or config.get("sbert_ce_default_activation_function")),
    }


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def head_of(directory: Path, manifest: Interface) -> Head:
    """The head of a model or engine directory.

    A directory of an earlier version has no "head" in its manifest; its config.json says the same.
    """
    facts = manifest.get("head")
    if facts is None:
        facts = head_facts(_json_of(directory / CONFIG))
    return Head(
        manifest["task"],
        unique(manifest["labels"]),
        problem_type=facts.get("problem_type"),
        function_to_apply=facts.get("function_to_apply"),
        activation=facts.get("activation"),
        embedding=facts.get("embedding"),
    )


def default_prompt(manifest: Interface) -> str:
    """What an embedding model puts in front of a text that comes without a prompt."""
    facts = manifest.get("head")
    embedding = facts.get("embedding") if facts else None
    if embedding is None:
        return ""
    name = embedding.get("default_prompt")
    return "" if name is None else embedding.get("prompts", {}).get(name, "")


def cutting(directory: Path, tokens: int) -> str:
    """Python's call that cuts rows as the tokenizer of an engine directory does.

    Args:
        tokens: of a row at most.
    """
    side = _json_of(directory / TOKENIZER_CONFIG).get("truncation_side", "right")
    more = ', direction="left"' if side == "left" else ""
    return f"tokenizer.enable_truncation({tokens}{more})"


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, no two alike: a second "a" becomes "a#2".

    >>> unique(["a", "b", "a", "a"])
    ('a', 'b', 'a#2', 'a#3')
    """
    taken, found = set(names), list[str]()
    for name in names:
        number, chosen = 1, name
        while chosen in found or (number > 1 and chosen in taken):
            number += 1
            chosen = f"{name}#{number}"
        found.append(chosen)
    return tuple(found)


def _json_of(path: Path) -> dict[str, object]:
    """An object of JSON; empty where there is none that can be read."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
