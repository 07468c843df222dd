"""Train small heads on all-MiniLM-L6-v2, to measure them with: a reranker, a tagger, a multi-label
classifier, answers to questions.

    python benchmarks/train_heads.py reranker --data DIR OUT     # train.tsv of STS-B
    python benchmarks/train_heads.py tagger --data DIR OUT       # train.conll of WNUT-17
    python benchmarks/train_heads.py multilabel --data DIR OUT   # the same; OUT has its rows too
    python benchmarks/train_heads.py qa --data DIR OUT           # train.json of qa_rows.py

A few minutes each on two cores. OUT is a Hugging Face checkpoint; seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from qdeploy.data.gold_answers import GoldAnswer, answers_of
from qdeploy.data.rows import Rows, read_rows
from qdeploy.data.tokens import items_of
from qdeploy.models.embedded import base_checkpoint

BATCH, TOKENS, WARMUP = 32, 128, 0.1
EPOCHS = {"reranker": 4, "tagger": 8, "multilabel": 5, "qa": 1}
RATES = {"reranker": 1e-4, "tagger": 2e-4, "multilabel": 2e-4, "qa": 3e-4}
IGNORED = -100  # a label that no loss counts
WINDOW = 128  # tokens of a question with its context; few of the set have more
WNUT17 = "text=tokens,label=ner_tags"
STSB = "text=sentence1,text_pair=sentence2,label=score"

Batch = dict[str, Any]


def train(model: Any, batches: Callable[[], Iterator[Batch]], steps: int, rate: float) -> None:
    """AdamW with a linear schedule; gradients are cut at length 1."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, int(WARMUP * steps), steps)
    model.train()
    began, step = time.monotonic(), 0
    while step < steps:
        for batch in batches():
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % 50 == 0 or step == steps:
                print(
                    f"{step}/{steps} {loss.item():.4f} {time.monotonic() - began:.0f} s", flush=True
                )


def shuffled(count: int) -> Iterator[list[int]]:
    """Positions of batches."""
    order = random.sample(range(count), count)
    return (order[at : at + BATCH] for at in range(0, count, BATCH))


def reranker(base: Path, rows: Rows, tokenizer: Any) -> Any:
    """A cross-encoder with one logit, whose sigmoid is the score over 5."""
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(base, num_labels=1)
    model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    assert rows.second is not None
    assert rows.labels is not None
    scores = [float(label) / 5 for label in rows.labels]

    class Loss(torch.nn.Module):
        def forward(self, labels: Any, **feeds: Any) -> Any:
            logits = model(**feeds).logits[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss)

    def batches() -> Iterator[Batch]:
        for chosen in shuffled(len(rows)):
            pairs = ([rows.first[i] for i in chosen], [rows.second[i] for i in chosen])
            feeds = tokenizer(*pairs, padding=True, truncation=True, max_length=TOKENS,
                              return_tensors="pt")  # fmt: skip
            yield {**feeds, "labels": torch.tensor([scores[i] for i in chosen])}

    loss = Loss()
    loss.model = model  # so that its parameters are the model's
    steps = EPOCHS["reranker"] * -(-len(rows) // BATCH)
    train(loss, batches, steps, RATES["reranker"])
    return model


def tagger(base: Path, rows: Rows, tokenizer: Any) -> Any:
    """A token classifier; the first token of each word carries its tag."""
    assert rows.labels is not None
    tags = [items_of(label) for label in rows.labels]
    names = sorted({tag for row in tags for tag in row}, key=lambda tag: (tag != "O", tag[2:], tag))
    numbers = {name: at for at, name in enumerate(names)}
    model = transformers.AutoModelForTokenClassification.from_pretrained(
        base, num_labels=len(names), id2label=dict(enumerate(names)), label2id=numbers
    )

    def batches() -> Iterator[Batch]:
        for chosen in shuffled(len(rows)):
            words = [rows.first[i].split(" ") for i in chosen]
            feeds = tokenizer(words, is_split_into_words=True, padding=True, truncation=True,
                              max_length=TOKENS, return_tensors="pt")  # fmt: skip
            labels = [
                _labels(feeds.word_ids(line), [numbers[tag] for tag in tags[i]])
                for line, i in enumerate(chosen)
            ]
            yield {**feeds, "labels": torch.tensor(labels)}

    steps = EPOCHS["tagger"] * -(-len(rows) // BATCH)
    train(model, batches, steps, RATES["tagger"])
    return model


def _labels(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """A label for each token; only the first of a word counts."""
    before: int | None = None
    found = []
    for word in words:
        found.append(IGNORED if word is None or word == before else tags[word])
        before = word
    return found


def multilabel(base: Path, rows: Rows, tokenizer: Any) -> Any:
    """Which types of entity stand in a sentence: none, one or several."""
    assert rows.labels is not None
    kinds = [kinds_of(label) for label in rows.labels]
    names = sorted({kind for row in kinds for kind in row})
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(
        base, num_labels=len(names), id2label=dict(enumerate(names)),
        label2id={name: at for at, name in enumerate(names)},
        problem_type="multi_label_classification",
    )  # fmt: skip
    targets = torch.tensor([[float(name in row) for name in names] for row in kinds])

    def batches() -> Iterator[Batch]:
        for chosen in shuffled(len(rows)):
            feeds = tokenizer([rows.first[i] for i in chosen], padding=True, truncation=True,
                              max_length=TOKENS, return_tensors="pt")  # fmt: skip
            yield {**feeds, "labels": targets[chosen]}

    steps = EPOCHS["multilabel"] * -(-len(rows) // BATCH)
    train(model, batches, steps, RATES["multilabel"])
    return model


def kinds_of(label: str) -> list[str]:
    """The types of entity among the tags of a sentence, each once."""
    return sorted({tag[2:] for tag in items_of(label) if tag != "O"})


def write_kinds(rows: Rows, path: Path) -> None:
    """Sentences and their types of entity as JSON Lines with lists."""
    assert rows.labels is not None
    lines = [
        json.dumps({"text": text, "labels": kinds_of(label)})
        for text, label in zip(rows.first, rows.labels, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def qa(base: Path, rows: Rows, tokenizer: Any) -> Any:
    """Start and end of an answer; both at the first token where the window holds none."""
    assert rows.second is not None
    assert rows.labels is not None
    gold = [answers_of(label)[:1] for label in rows.labels]
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(base)

    def batches() -> Iterator[Batch]:
        for chosen in shuffled(len(rows)):
            pairs = ([rows.first[i] for i in chosen], [rows.second[i] for i in chosen])
            feeds = tokenizer(*pairs, padding=True, truncation="only_second", max_length=WINDOW,
                              return_tensors="pt")  # fmt: skip
            found = [_span(feeds, line, gold[i]) for line, i in enumerate(chosen)]
            starts, ends = torch.tensor(found).T
            yield {**feeds, "start_positions": starts, "end_positions": ends}

    steps = EPOCHS["qa"] * -(-len(rows) // BATCH)
    train(model, batches, steps, RATES["qa"])
    return model


def _span(feeds: Any, line: int, gold: Sequence[GoldAnswer]) -> tuple[int, int]:
    """First and last token of an answer; 0, 0 where there is none."""
    if not gold:
        return 0, 0
    (answer,) = gold
    last = answer.start + len(answer.text) - 1
    start, end = (feeds.char_to_token(line, at, 1) for at in (answer.start, last))
    return (0, 0) if start is None or end is None else (start, end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head", choices=sorted(EPOCHS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    torch.set_num_threads(args.threads)
    base = base_checkpoint()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    if args.head == "qa":
        model = qa(base, read_rows(args.data / "train.json", task="squad"), tokenizer)
    elif args.head == "reranker":
        rows = read_rows(args.data / "train.tsv", task="text-pair", columns=STSB)
        model = reranker(base, rows, tokenizer)
    else:
        rows = read_rows(args.data / "train.conll", task="text", columns=WNUT17)
        make = tagger if args.head == "tagger" else multilabel
        model = make(base, rows, tokenizer)
    if args.head == "multilabel":
        args.out.mkdir(parents=True, exist_ok=True)
        for name in ("train", "dev"):
            found = read_rows(args.data / f"{name}.conll", task="text", columns=WNUT17)
            write_kinds(found, args.out / f"{name}.jsonl")
    model.eval().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
