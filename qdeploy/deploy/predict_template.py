#!/usr/bin/env python3
"""Answers of the engine in this directory, as JSON lines.

    pip install PACKAGES
    python predict.py "a text" "another text"
    python predict.py --pairs "first text" "second text"
    python predict.py --file texts.txt      a text a line; with --pairs a tab between two
    python predict.py --file rows.jsonl     {"text": "...", "text_pair": "..."} a line
    python predict.py --file -              lines of standard input; add --jsonl for JSON

Blank lines are passed over. CSV, TSV and Parquet files are for `qdeploy predict`.
`qdeploy build` wrote this file. It needs no qdeploy, torch or transformers. From your own code:

    from predict import Model
    answers = Model().answers([("a text",), ("first text", "second text")])
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

# <qdeploy>
from qdeploy.deploy.predict_lines import blocks, lines_of, read
from qdeploy.deploy.predict_spans import answer_of, windows_of

# </qdeploy>
HERE = Path(__file__).resolve().parent
# <constants>
LABELS = ["no", "yes"]
FUNCTION = "softmax"
INPUTS, OUTPUTS = ["input_ids", "attention_mask"], ["logits"]
MAX_LENGTH = 512
VOCABULARY = 30522
PAD_ID = 0
UNKNOWN_ID: int | None = None
NO_ANSWER: float | None = None
TRUNCATION_SIDE = PADDING_SIDE = "right"
REST_PRECISION = "f32"
PROMPT = ""
TEXTS = ["question", "sentence"]
# </constants>
BATCH_ROWS, BATCH_TOKENS, BATCH_PAIRS = 8, 4096, 524288  # at most; attention holds pairs of tokens
TABLES = (".csv", ".tsv", ".parquet")
Row = tuple[str, ...]  # (text,) or (text, text_pair)
Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]  # inputs by name → values of OUTPUTS


# <ort>
def open_onnxruntime(threads: int) -> Run:
    """The engine, in ONNX Runtime."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(
        HERE / "model.onnx",
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],  # slower on a CPU than what it replaces
    )
    return lambda feeds: list(session.run(OUTPUTS, feeds))


# </ort>
# <openvino>
def open_openvino(threads: int) -> Run:
    """The engine, in OpenVINO; the package that reports each import to Google is left out."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": REST_PRECISION,
    }
    core = vars(openvino).setdefault("kept_core", openvino.Core())  # freed ones break signals
    compiled = core.compile_model(str(HERE / "model.onnx"), "CPU", settings)
    request = compiled.create_infer_request()

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = request.infer(feeds)
        return [np.array(found[compiled.output(name)], np.float32) for name in OUTPUTS]

    return run


# </openvino>
# <classify>
def classify(logits: np.ndarray) -> dict[str, object]:
    """The class with the highest score, and the score of each."""
    scores = scores_of(logits, FUNCTION)
    best = int(np.argmax(scores))
    found: dict[str, object] = {"label": LABELS[best], "score": float(scores[best])}
    found["scores"] = dict(zip(LABELS, scores.tolist(), strict=True))
    # <multi>
    chances = zip(LABELS, scores_of(logits, "sigmoid"), strict=True)
    found["labels"] = [label for label, chance in chances if chance > 0.5]  # maybe none
    # </multi>
    return found


def scores_of(logits: np.ndarray, function: str) -> np.ndarray:
    """Scores of float32 [classes] logits, float64."""
    if function == "softmax":
        powers = np.exp(logits.astype(np.float64) - logits.max())
        shares: np.ndarray = powers / powers.sum()
        return shares
    if function == "sigmoid":
        small = np.exp(-np.abs(logits.astype(np.float64)))
        return np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return logits.astype(np.float64)


# </classify>
# <entities>
def find_entities(text: str, tokens: Encoding, logits: np.ndarray) -> dict[str, object]:
    """The tokens of a text whose class is not "O", each with its place in the text."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    scores = powers / powers.sum(axis=-1, keepdims=True)
    found = []
    for at, best in enumerate(scores.argmax(axis=-1).tolist()):
        if tokens.sequence_ids[at] is None or LABELS[best] == "O":  # None: of a special token
            continue
        start, end = tokens.offsets[at]
        word = text[start:end] if tokens.ids[at] == UNKNOWN_ID else tokens.tokens[at]
        entity = {"label": LABELS[best], "score": float(scores[at, best]), "word": word}
        found.append(entity | {"index": at, "start": start, "end": end})
    return {"entities": found}


# </entities>
class Model:
    """The engine with its tokenizer; for one thread at a time."""

    def __init__(self, threads: int | None = None) -> None:
        # <ort>
        self.run = open_onnxruntime(threads or usable_cores())
        # </ort>
        # <openvino>
        self.run = open_openvino(threads or usable_cores())
        # </openvino>
        # <texts>
        self.warned = False
        # </texts>
        self.tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_LENGTH, direction=TRUNCATION_SIDE)  # the longer first

    def answers(self, rows: list[Row]) -> list[dict[str, object]]:
        """An answer for each row, in order."""
        # <single>
        if any(len(row) == 2 for row in rows):
            sys.exit("This engine reads single texts, and pairs were given.")
        # </single>
        # <embed>
        rows = [(PROMPT + row[0],) for row in rows]
        # </embed>
        # <texts>
        self.compare({len(row) for row in rows} - {len(TEXTS)})
        # </texts>
        # <whole>
        encoded = self.tokenizer.encode_batch([row if len(row) == 2 else row[0] for row in rows])
        # </whole>
        # <spans>
        owners, encoded = windows_of(self.tokenizer, rows, MAX_LENGTH, TRUNCATION_SIDE)
        said: list[list[np.ndarray]] = [[] for _ in encoded]
        # </spans>
        found: list[dict[str, object]] = [{} for _ in rows]
        for batch in batches([len(tokens) for tokens in encoded]):
            feeds = padded([encoded[at] for at in batch])
            outputs = self.run(feeds)
            for line, at in enumerate(batch):
                values = [output[line] for output in outputs]
                # <tokens>
                own = feeds["attention_mask"][line] == 1  # without the padding
                values = [value[own] for value in values]
                # </tokens>
                if not all(np.isfinite(value).all() for value in values):
                    sys.exit("The engine gives values that are not finite. Build it again.")
                # <classify>
                found[at] = classify(*values)
                # </classify>
                # <entities>
                found[at] = find_entities(rows[at][0], encoded[at], *values)
                # </entities>
                # <embed>
                found[at] = {"embedding": values[0].tolist()}
                # </embed>
                # <spans>
                said[at] = values
                # </spans>
                # <raw>
                found[at] = {n: v.tolist() for n, v in zip(OUTPUTS, values, strict=True)}
                # </raw>
        # <spans>
        parts: list[list[tuple[Encoding, list[np.ndarray]]]] = [[] for _ in rows]
        for owner, tokens, values in zip(owners, encoded, said, strict=True):
            parts[owner].append((tokens, values))
        found = [answer_of(row[1], own, NO_ANSWER) for row, own in zip(rows, parts, strict=True)]
        # </spans>
        return found

    # <texts>
    def compare(self, others: set[int]) -> None:
        """Say once that rows are pairs where the engine is for texts, or the other way round."""
        if others and not self.warned:
            self.warned = True
            named, one, two = ", ".join(TEXTS), "single texts", "pairs of texts"
            asked, own = (one, two) if 1 in others else (two, one)
            text = f"{asked.capitalize()} are answered, and this engine is for {own} ({named})"
            print(f"Warning: {text}: answers may be wrong.", file=sys.stderr)

    # </texts>


def batches(lengths: list[int]) -> Iterator[list[int]]:
    """Rows of similar length together, the longest first; fewer of long ones."""
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    while order:
        longest = max(lengths[order[0]], 1)
        rows = max(1, min(BATCH_ROWS, BATCH_TOKENS // longest, BATCH_PAIRS // longest**2))
        yield order[:rows]
        order = order[rows:]


def padded(encoded: list[Encoding]) -> dict[str, np.ndarray]:
    """Inputs of the engine, int64 [rows, tokens of the longest row]."""
    width, feeds = max(map(len, encoded)), {}
    for name in INPUTS:
        field = {"input_ids": "ids", "token_type_ids": "type_ids"}.get(name, name)
        feeds[name] = np.full((len(encoded), width), PAD_ID if name == "input_ids" else 0, np.int64)
        for line, tokens in zip(feeds[name], encoded, strict=True):
            start = width - len(tokens) if PADDING_SIDE == "left" else 0
            line[start : start + len(tokens)] = getattr(tokens, field)
    if feeds["input_ids"].max(initial=0) >= VOCABULARY:
        sys.exit(f"A text holds a token that the model does not know; it knows {VOCABULARY}.")
    return feeds


def usable_cores() -> int:
    """Cores that this process may use."""
    granted = getattr(os, "sched_getaffinity", None)  # on Linux
    return len(granted(0)) if granted else os.cpu_count() or 1


# <answers>
# </answers>
# <lines>
# </lines>
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--file", help="a text or a JSON object a line; - is standard input")
    parser.add_argument("--jsonl", action="store_true", help="lines are JSON, as in *.jsonl")
    parser.add_argument("--pairs", action="store_true", help="two texts belong together")
    parser.add_argument("--threads", type=int, help="as many as usable cores by default")
    args = parser.parse_args()
    if bool(args.texts) == bool(args.file) or (args.pairs and len(args.texts) % 2):
        parser.error("give texts (with --pairs an even number of them), or --file")
    if (file := next(filter(os.path.isfile, args.texts), None)) is not None:
        parser.error(f"{file} is a file: pass it with --file")
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this quietly
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    if args.texts:
        step = 1 + args.pairs
        rows = iter([tuple(args.texts[at : at + step]) for at in range(0, len(args.texts), step)])
    elif args.file != "-" and not Path(args.file).is_file():
        parser.error(f"{args.file} is no file")
    elif (suffix := Path(args.file).suffix.lower()) in TABLES and not args.jsonl:
        parser.error(
            f"{args.file} is a table: use `qdeploy predict`, or write one text per line into a .txt"
        )
    else:
        if args.file == "-" and sys.stdin.isatty():
            print("Reading lines from the terminal; Ctrl-D ends them.", file=sys.stderr)
        rows = read(lines_of(args.file), args.jsonl or suffix == ".jsonl", args.pairs)
    model = Model(args.threads)
    for block in blocks(rows, "standard input" if args.file == "-" else args.file):
        for found in model.answers(block):
            print(json.dumps(found, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
