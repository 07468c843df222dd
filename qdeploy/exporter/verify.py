"""The written files against torch and transformers: logits at three shapes, tokens of odd texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.errors import VerificationError
from qdeploy.exporter import sample_texts
from qdeploy.exporter.quiet import quiet
from qdeploy.exporter.rounding import REPORT, Agreement, Case, agreement, check_comparable
from qdeploy.exporter.tokenizer import embedding_rows
from qdeploy.types import Array

if TYPE_CHECKING:
    import onnxruntime
    from tokenizers import Encoding
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerFast

SHAPES = ((1, 8), (2, 37), (8, 128))
_TOKENS = 128  # length at which truncation is compared


@dataclass(frozen=True)
class Interface:
    """What goes in and comes out of a graph.

    Attributes:
        inputs: input names, in order; int64 [B, S].
        outputs: output names, in order.
        max_length: tokens that the model takes.
        pad_token_id: what fills a row behind its end.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_length: int
    pad_token_id: int

    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Batch and sequence sizes to try, cut to what the model takes."""
        return tuple((batch, min(length, self.max_length)) for batch, length in SHAPES)


def verify_logits(
    model: PreTrainedModel,
    path: Path,
    tokenizer: PreTrainedTokenizerFast,
    interface: Interface,
    *,
    seed: int = 0,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Compare the graph in ONNX Runtime with torch on real and random rows, some of them padded.

    Args:
        model: the torch model.
        path: the written `model.onnx`.
        tokenizer: transformers' tokenizer.
        interface: of the graph.
        seed: of the random rows.
        step: called as step(done, total) after each comparison.

    Raises:
        VerificationError: the graph does not run, or a logit is not finite, or differs by more
            than the model's own rounding explains.
    """
    session = open_graph(path)
    rng = np.random.default_rng(seed)
    batches = list(batches_of(tokenizer, interface, embedding_rows(model), rng))
    cases: list[Case] = []
    for done, (kind, feeds) in enumerate(batches, 1):
        cases += _compare(model, session, kind, feeds, interface.outputs)
        step(done, len(batches))
    return agreement(model, cases)


def open_graph(path: Path) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime's CPU provider.

    Raises:
        VerificationError: it does not load.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise VerificationError(
            f"ONNX Runtime {onnxruntime.__version__} does not load the exported graph: {error}. "
            "Install the versions of constraints.txt and export again."
        ) from error


def batches_of(
    tokenizer: PreTrainedTokenizerFast, interface: Interface, rows: int, rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Batches of real and random rows at each shape: what they are, and int64 [B, S] by input.

    Args:
        rows: of the table of tokens.
    """
    for at, (batch, length) in enumerate(interface.shapes()):
        yield "real text", _real(tokenizer, interface, batch, length, start=at)
        yield "random tokens", _random(rows, interface, batch, length, rng)


def _real(
    tokenizer: PreTrainedTokenizerFast, interface: Interface, batch: int, length: int, start: int
) -> dict[str, Array]:
    pairs = [sample_texts.PLAIN[(start + i) % len(sample_texts.PLAIN)] for i in range(batch)]
    encoded = tokenizer(
        [first for first, _ in pairs],
        [second for _, second in pairs],
        truncation=True,
        max_length=length,
        return_attention_mask=True,
        return_token_type_ids="token_type_ids" in interface.inputs,
    )
    rows = {name: encoded[name] for name in interface.inputs}
    return {name: _padded(name, rows[name], length, interface) for name in interface.inputs}


def _random(
    rows: int, interface: Interface, batch: int, length: int, rng: np.random.Generator
) -> dict[str, Array]:
    """Random ids, the first row full and the others of random lengths."""
    lengths = [length, *rng.integers(1, length + 1, batch - 1).tolist()]
    allowed = np.delete(np.arange(rows), interface.pad_token_id)
    given: dict[str, list[list[int]]] = {
        "input_ids": [rng.choice(allowed, n).tolist() for n in lengths],
        "attention_mask": [[1] * n for n in lengths],
        "token_type_ids": [[0] * (n // 2) + [1] * (n - n // 2) for n in lengths],
    }
    return {name: _padded(name, given[name], length, interface) for name in interface.inputs}


def _padded(name: str, rows: Sequence[Sequence[int]], length: int, interface: Interface) -> Array:
    fill = interface.pad_token_id if name == "input_ids" else 0
    padded = np.full((len(rows), length), fill, np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return padded


def _compare(
    model: PreTrainedModel,
    session: onnxruntime.InferenceSession,
    kind: str,
    feeds: dict[str, Array],
    outputs: Sequence[str],
) -> list[Case]:
    import torch

    batch, length = feeds["input_ids"].shape
    where = f"{kind}, batch {batch}, sequence {length}"
    with quiet(), torch.no_grad():
        expected = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    try:
        found = session.run(list(outputs), feeds)
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise VerificationError(
            f"The exported graph does not run ({where}): {error}. {REPORT}"
        ) from error
    cases = [
        Case(where, name, feeds, expected[name].numpy(), array)
        for name, array in zip(outputs, found, strict=True)
    ]
    for case in cases:
        check_comparable(case)
    return cases


def verify_tokenizer(tokenizer: PreTrainedTokenizerFast, path: Path, inputs: Sequence[str]) -> int:
    """Compare `tokenizers` on the written file with transformers, on pairs, singles and cut pairs.

    Args:
        tokenizer: transformers' tokenizer.
        path: the written `tokenizer.json`.
        inputs: input names of the graph.

    Returns:
        How many rows were compared.

    Raises:
        VerificationError: a row whose tokens differ.
    """
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(path))
    pairs = sample_texts.PAIRS
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    limit = min(_TOKENS, int(tokenizer.model_max_length))
    for truncate in (False, True):
        if truncate:
            side = tokenizer.truncation_side
            ours.enable_truncation(limit, strategy="longest_first", direction=side)
        with quiet():
            options = {
                "truncation": truncate,
                "max_length": limit if truncate else None,
                "return_token_type_ids": "token_type_ids" in inputs,
            }
            both, single = tokenizer(firsts, seconds, **options), tokenizer(firsts, **options)
        _compare_tokens(pairs, both, ours.encode_batch(list(pairs)), inputs)
        _compare_tokens(firsts, single, ours.encode_batch(firsts), inputs)
    return 4 * len(pairs)


def _compare_tokens(
    rows: Sequence[str | tuple[str, str]],
    expected: BatchEncoding,
    found: Sequence[Encoding],
    inputs: Sequence[str],
) -> None:
    fields = {"input_ids": "ids", "token_type_ids": "type_ids"}
    for name in [name for name in fields if name in inputs]:
        for row, wanted, encoding in zip(rows, expected[name], found, strict=True):
            tokens = getattr(encoding, fields[name])
            if list(wanted) != list(tokens):
                both = itertools.zip_longest(wanted, tokens)
                at = next(place for place, (one, other) in enumerate(both) if one != other)
                raise VerificationError(
                    f"tokenizer.json gives other {name} than transformers for {row!r}, from token "
                    f"{at + 1} on: {tokens[at : at + 8]}, and {list(wanted)[at : at + 8]} was "
                    "expected. Save a fast tokenizer into the checkpoint with "
                    "`tokenizer.save_pretrained(...)`."
                )
