"""Tiny question answering engines, and what transformers' example makes of the same checkpoint."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import qdeploy
from tests.tiny import tiny_checkpoint

FAMILIES = {"bert": 32, "roberta": 64}  # hidden size of each
WORDS = ["river", "city", "King", "1843", "war", "the", "a", "north", "music,", "light", "Ada's"]
N_BEST, LONGEST = 20, 30


def make_engines(home: Path, family: str) -> None:
    """`checkpoint`, `model`, the engines `fp32` and `w8a8`, and `rows.jsonl` as of SQuAD 2.0."""
    tiny_checkpoint(home / "checkpoint", family, "question-answering", hidden=FAMILIES[family])
    sharpen(home / "checkpoint")
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions()))
    qdeploy.export(home / "checkpoint", home / "model")
    qdeploy.build(home / "model", home / "fp32", strategy="fp32")
    qdeploy.build(home / "model", home / "w8a8", strategy="w8a8", data=str(home / "rows.jsonl"),
                  calibration_rows=8)  # fmt: skip


def sharpen(checkpoint: Path) -> None:
    """Larger logits, so that spans differ by more than two runtimes do."""
    import transformers

    model: Any = transformers.AutoModelForQuestionAnswering.from_pretrained(checkpoint)
    model.qa_outputs.weight.data *= 6
    model.save_pretrained(checkpoint)


def questions(count: int = 48, seed: int = 0) -> list[dict[str, Any]]:
    """Rows; every fourth has no answer, every third a context of several windows."""
    rng, found = random.Random(seed), []
    for at in range(count):
        words = rng.choices(WORDS, k=rng.randint(90, 250) if at % 3 == 0 else rng.randint(3, 40))
        context, where = " ".join(words), rng.randrange(len(words))
        text, start = words[where], len(" ".join(words[:where])) + (where > 0)
        gold: dict[str, list[Any]] = {"text": [text], "answer_start": [start]}
        if at % 4 == 0:
            gold = {"text": [], "answer_start": []}
        asked = f"which {rng.choice(WORDS)} of {rng.choice(WORDS)} is it?"
        found.append({"id": at, "question": asked, "context": context, "answers": gold})
    return found


class Reference:
    """The checkpoint in torch, with the rule of transformers' example, span by span.

    transformers 5 has neither a pipeline nor a helper for it any more.
    """

    def __init__(self, checkpoint: Path) -> None:
        import transformers

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        kind = transformers.AutoModelForQuestionAnswering
        self.model: Any = kind.from_pretrained(checkpoint).eval()

    def spans(
        self, question: str, context: str, limit: int, stride: int
    ) -> tuple[dict[tuple[int, int], float], float]:
        """The sum of each span's logits by its characters, and that of no answer."""
        import torch

        feeds = self.tokenizer(
            question, context, truncation="only_second", max_length=limit, stride=stride,
            return_overflowing_tokens=True, return_offsets_mapping=True, padding=True,
            return_tensors="pt",
        )  # fmt: skip
        names = self.tokenizer.model_input_names
        with torch.no_grad():
            outputs = self.model(**{name: feeds[name] for name in names})
        found: dict[tuple[int, int], float] = {}
        none = math.inf
        for at, (start, end) in enumerate(
            zip(outputs.start_logits.tolist(), outputs.end_logits.tolist(), strict=True)
        ):
            none = min(none, start[0] + end[0])
            places = feeds["offset_mapping"][at].tolist()
            own = [i for i, place in enumerate(feeds.sequence_ids(at)) if place == 1]
            for i in own:
                for j in own:
                    text = context[places[i][0] : places[j][1]]
                    if i <= j < i + LONGEST and text.strip():
                        begin = places[i][0] + len(text) - len(text.lstrip())
                        place = begin, begin + len(text.strip())
                        found[place] = max(start[i] + end[j], found.get(place, -math.inf))
        return found, none
