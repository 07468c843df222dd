"""Questions with answers in SQuAD's form, made of QNLI, to measure question answering with.

    python benchmarks/qa_rows.py --qnli DIR OUT     # writes OUT/train.json and OUT/dev.json

QNLI has SQuAD's questions and sentences, and says which sentence holds the answer, but not where.
It is taken from questions that ask for a year or a number, where the sentence holds just one that
the question does not. The sentence stands beside one other that holds one too, or in every tenth
context of the dev set among 16; in a quarter of the contexts it is missing, and there is no answer.
So these are no SQuAD: figures compare engines of one model, and not models. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdeploy.data.rows import read_rows

KINDS = (
    (re.compile(r"when\b|(in |what |which )+year", re.I), re.compile(r"\b1\d{3}\b|\b20\d\d\b")),
    (re.compile(r"how (many|much)\b", re.I), re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")),
)
AROUND, FAR_AROUND, EVERY_FAR, MISSING = 1, 16, 10, 0.25
HELD_OUT = 10  # every so many questions of the training set are of the dev set
Found = tuple[str, str, str]  # question, sentence, answer


def found_in(file: Path) -> Iterator[Found]:
    """Questions whose answer can be told."""
    rows = read_rows(file, task="qnli")
    assert rows.second is not None
    assert rows.labels is not None
    for question, sentence, label in zip(rows.first, rows.second, rows.labels, strict=True):
        if label != "entailment":
            continue
        for asks, answers in KINDS:
            known = set(answers.findall(question))
            found = answers.findall(sentence)
            if asks.match(question) and len(found) == 1 and not known:
                yield question, sentence, found[0]


def squad(found: list[Found], rng: random.Random, *, far: bool) -> dict[str, Any]:
    """A file of SQuAD 2.0 with a paragraph for each question."""
    paragraphs = []
    for at, (question, sentence, answer) in enumerate(found):
        around = FAR_AROUND if far and at % EVERY_FAR == 0 else AROUND
        others = [other for _, other, _ in rng.sample(found, around + 1) if other != sentence]
        missing = rng.random() < MISSING
        texts = others[:around] + ([] if missing else [sentence])
        rng.shuffle(texts)
        context = " ".join(texts)
        start = -1 if missing else context.index(sentence) + sentence.index(answer)
        answers = [] if missing else [{"text": answer, "answer_start": start}]
        asked = {"id": str(at), "question": question, "answers": answers, "is_impossible": missing}
        paragraphs.append({"context": context, "qas": [asked]})
    return {"version": "v2.0", "data": [{"title": "QNLI", "paragraphs": paragraphs}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--qnli", type=Path, required=True)
    args = parser.parse_args()
    rng = random.Random(0)
    train, dev = list(found_in(args.qnli / "train.tsv")), list(found_in(args.qnli / "dev.tsv"))
    dev += train[::HELD_OUT]
    del train[::HELD_OUT]
    args.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("dev", dev)):
        (args.out / f"{name}.json").write_text(
            json.dumps(squad(rows, rng, far=name == "dev")), "utf-8"
        )
        print(f"{name}: {len(rows)} questions")


if __name__ == "__main__":
    main()
