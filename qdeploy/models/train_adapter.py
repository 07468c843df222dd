"""Train the LoRA adapter of the embedded checkpoint on QNLI.

A script, run by hand and imported by nothing:

    python qdeploy/models/train_adapter.py --train shared/data/qnli/train.tsv \
        --dev shared/data/qnli/dev.tsv --output qdeploy/models/minilm-qnli

Rank-16 LoRA (Hu et al. 2021, arXiv 2106.09685) on every linear layer of MiniLM-L6-H384 plus the
classifier, bf16 autocast, length-sorted batches, AdamW with a linear decay. The adapter is stored
in FP16 (about 1.4 MB). Class 0 is entailment, as in GLUE.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BASE_ID = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = ("entailment", "not_entailment")
MAX_LENGTH = 128
BUCKET = 64  # batches that are sorted by length together; the order of batches stays random

Encoded = list[tuple[list[int], list[int], int]]  # input ids, token types, class


def read_rows(path: Path) -> list[tuple[str, str, int]]:
    """Rows of a GLUE QNLI TSV (no quoting): question, sentence, class index."""
    lines = path.read_text(encoding="utf-8").split("\n")[1:]
    fields = [line.split("\t") for line in lines if line]
    return [(row[1], row[2], LABELS.index(row[3])) for row in fields]


def encode(rows: list[tuple[str, str, int]], tokenizer) -> Encoded:
    """Token ids and types of every row, cut to 128 tokens."""
    pairs = tokenizer(
        [r[0] for r in rows], [r[1] for r in rows], truncation=True, max_length=MAX_LENGTH
    )
    return [
        (ids, types, row[2])
        for ids, types, row in zip(pairs["input_ids"], pairs["token_type_ids"], rows, strict=True)
    ]


def collate(rows: Encoded) -> dict[str, torch.Tensor]:
    """One padded batch: int64 [B, S] inputs and int64 [B] labels."""
    width = max(len(ids) for ids, _, _ in rows)

    def padded(values: list[list[int]]) -> torch.Tensor:
        return torch.tensor([v + [0] * (width - len(v)) for v in values])

    return {
        "input_ids": padded([ids for ids, _, _ in rows]),
        "attention_mask": padded([[1] * len(ids) for ids, _, _ in rows]),
        "token_type_ids": padded([types for _, types, _ in rows]),
        "labels": torch.tensor([label for _, _, label in rows]),
    }


def epoch_batches(rows: Encoded, batch_size: int, rng: random.Random) -> list[Encoded]:
    """Shuffled batches whose rows are of similar length, so that little of a batch is padding."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    batches: list[Encoded] = []
    for start in range(0, len(order), batch_size * BUCKET):
        bucket = sorted(order[start : start + batch_size * BUCKET], key=lambda i: len(rows[i][0]))
        batches += [
            [rows[i] for i in bucket[at : at + batch_size]]
            for at in range(0, len(bucket), batch_size)
        ]
    rng.shuffle(batches)
    return batches


@torch.inference_mode()
def accuracy(model: torch.nn.Module, rows: Encoded, batch_size: int = 64) -> float:
    """Share of rows classified right, in bf16 (`qdeploy eval` gives the FP32 figure)."""
    model.eval()
    rows = sorted(rows, key=lambda row: len(row[0]))
    right = 0
    for at in range(0, len(rows), batch_size):
        batch = collate(rows[at : at + batch_size])
        labels = batch.pop("labels")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(**batch).logits
        right += int((logits.argmax(-1) == labels).sum())
    model.train()
    return right / len(rows)


def build_model(base: str, seed: int) -> torch.nn.Module:
    """The base encoder with a fresh two-class head and a LoRA adapter on every linear layer."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=2,
        # Two epochs of rank-16 updates underfit rather than overfit, and dropout costs a third of
        # the time of a step on a CPU.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    lora = LoraConfig(
        task_type="SEQ_CLS",
        r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        target_modules=["query", "key", "value", "dense"],
        base_model_name_or_path=BASE_ID,
    )
    adapted = get_peft_model(model, lora)
    for module in adapted.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            module.bfloat16()  # frozen: else autocast casts it anew in every step
    return adapted


def train(model: torch.nn.Module, rows: Encoded, args: argparse.Namespace) -> None:
    """Minimise the cross entropy; log to standard error every 100 steps."""
    rng = random.Random(args.seed)
    batches = [b for _ in range(args.epochs) for b in epoch_batches(rows, args.batch_size, rng)]
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.learning_rate, weight_decay=0.01, fused=True)
    warmup = len(batches) // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warmup, (len(batches) - s) / (len(batches) - warmup)),
    )
    model.train()
    started, running = time.time(), 0.0
    for step, batch in enumerate(batches, 1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**collate(batch)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        running += loss.item()
        if step % 100 == 0:
            pace = (time.time() - started) / step
            print(
                f"step {step}/{len(batches)} loss {running / 100:.4f} {pace:.2f} s/step",
                file=sys.stderr,
                flush=True,
            )
            running = 0.0


def save_half(model: torch.nn.Module, output: Path) -> None:
    """Write the adapter with FP16 tensors: half the size, the same accuracy after the merge."""
    model.save_pretrained(output)
    config_file = output / "adapter_config.json"
    config = json.loads(config_file.read_text())
    config["base_model_name_or_path"] = BASE_ID
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    weights = output / "adapter_model.safetensors"
    tensors = {name: t.half().contiguous() for name, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="directory of MiniLM-L6-H384")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="train on the first N rows only (for a trial)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    model = build_model(args.base, args.seed)
    train(model, encode(read_rows(args.train)[: args.limit], tokenizer), args)
    save_half(model, args.output)
    dev = accuracy(model, encode(read_rows(args.dev), tokenizer))
    print(f"dev accuracy {100 * dev:.2f} %")


if __name__ == "__main__":
    main()
