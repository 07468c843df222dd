"""A canonical graph against the file that it was made from, in ONNX Runtime.

Two graphs of one model round differently, as torch and a graph do: the tolerance is that of
`qdeploy.exporter.rounding`. Beyond it the file's own rounding is the measure: what it gives with
and without the optimizations of ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.errors import CheckpointError, VerificationError
from qdeploy.exporter.from_onnx.outputs import ROW_VECTORS, TOKEN_VECTORS
from qdeploy.exporter.from_onnx.pooling import embed
from qdeploy.exporter.from_onnx.unfreeze import REMEDY, Traced
from qdeploy.exporter.rounding import (
    REPORT,
    Agreement,
    Case,
    Second,
    agreement_with,
    check_comparable,
)
from qdeploy.exporter.sentence_parts import SentenceParts
from qdeploy.exporter.verify import open_graph
from qdeploy.types import Array

if TYPE_CHECKING:
    import onnxruntime

# FP16 keeps 11 bits, and its arithmetic rounds in every operator of some 20 layers: 0.4 % of the
# largest output was seen. A wrong weight is off by more than this.
HALF_TOLERANCE = 0.05
Batches = Sequence[tuple[str, Mapping[str, Array]]]


@dataclass(frozen=True)
class File:
    """A file as it runs in ONNX Runtime.

    Attributes:
        path: of it.
        inputs: canonical name → its name.
        outputs: canonical name → its name; without the vectors that `parts` make.
        parts: what the canonical graph has behind the file's outputs, or None.
        padding: token behind which positions start, where they are counted so.
        traced: the one size that the file takes; rows are padded to it.
        per_token: canonical outputs with an axis of tokens.
    """

    path: Path
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parts: SentenceParts | None = None
    padding: int | None = None
    traced: Traced | None = None
    per_token: frozenset[str] = frozenset()

    def runner(
        self, *, optimized: bool = True
    ) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """What gives the canonical outputs of a batch of canonical inputs.

        Raises:
            CheckpointError: the file does not load.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        )
        try:
            session = onnxruntime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise CheckpointError(
                f"ONNX Runtime {onnxruntime.__version__} does not load {self.path}: "
                f"{' '.join(str(error).split())[:300]} Export the checkpoint again, or pass the "
                "checkpoint itself."
            ) from error
        return lambda feeds: self._run(session, feeds)

    def _run(
        self, session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]
    ) -> dict[str, Array]:
        if self.traced is None:
            found = self._given(session, feeds)
        else:
            found = self._in_pieces(session, feeds, self.traced)
        if self.parts is not None and ROW_VECTORS not in found:
            tokens, mask = found[TOKEN_VECTORS], feeds["attention_mask"]
            found[ROW_VECTORS] = embed(tokens, mask, self.parts).astype(np.float32)
        return {name: self.of_tokens(name, array, feeds) for name, array in found.items()}

    def of_tokens(self, name: str, array: Array, feeds: Mapping[str, Array]) -> Array:
        """An output with zeros behind padding, which nobody reads and graphs answer differently.

        In a sliding window a token may see padding alone: torch's own attention gives 0 there, and
        the same operators written out give a mean.
        """
        if name not in self.per_token:
            return array
        real = feeds["attention_mask"] > 0
        return np.where(real.reshape(*real.shape, *[1] * (array.ndim - 2)), array, 0)

    def _in_pieces(
        self, session: onnxruntime.InferenceSession, feeds: Mapping[str, Array], traced: Traced
    ) -> dict[str, Array]:
        """Rows padded to the one size of the file, as many at a time as it takes."""
        rows, length = feeds["input_ids"].shape
        batch, wide = traced.batch or rows, traced.sequence or length
        pieces = []
        for start in range(0, rows, batch):
            piece = {}
            for name, array in feeds.items():
                filled = np.zeros((batch, wide), array.dtype)
                filled[:, :length] = array[np.arange(start, start + batch) % rows]
                if name == "input_ids" and self.padding is not None:
                    filled[:, length:] = self.padding
                piece[name] = filled
            pieces.append(self._given(session, piece))
        whole = {name: np.concatenate([p[name] for p in pieces])[:rows] for name in pieces[0]}
        return {
            name: array[:, :length] if name in self.per_token else array
            for name, array in whole.items()
        }

    def _given(
        self, session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]
    ) -> dict[str, Array]:
        types = {value.name: value.type for value in session.get_inputs()}
        fixed = {value.name: value.shape for value in session.get_inputs()}
        batch, length = feeds["input_ids"].shape
        positions = np.tile(np.arange(length), (batch, 1))
        if self.padding is not None:
            real = feeds["input_ids"] != self.padding
            positions = real.cumsum(1) * real + self.padding
        given = {
            "position_ids": positions,
            "token_type_ids": np.zeros_like(feeds["input_ids"]),
        } | dict(feeds)
        named = {
            name: given[canonical].astype(_NUMPY.get(types[name], np.int64))
            for canonical, name in self.inputs.items()
            if name in fixed
        }
        try:
            arrays = session.run(list(self.outputs.values()), named)
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise CheckpointError(
                f"{self.path} does not run on batch {batch}, sequence {length}: "
                f"{' '.join(str(error).split())[:300]} Export the checkpoint again with dynamic "
                "axes for batch and sequence, or pass the checkpoint itself."
            ) from error
        return {
            canonical: array.astype(np.float32)
            for canonical, array in zip(self.outputs, arrays, strict=True)
        }


_OF_ONE_SIZE = (
    "Nothing was written. The file takes one size alone, and answers shorter rows by what stands "
    f"behind them: it may read padding. {REMEDY}"
)
_NUMPY: Mapping[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}


def verify_file(
    graph: Path,
    file: File,
    outputs: Sequence[str],
    batches: Batches,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Agreement:
    """Compare a canonical graph with the file on batches of several shapes, some rows padded.

    Args:
        graph: the written `model.onnx`.
        file: in FP32.
        outputs: canonical names.
        batches: words for each, and its inputs, int64 [B, S].
        step: called as step(done, total) after each comparison.

    Raises:
        VerificationError: an output differs by more than rounding explains.
        CheckpointError: the file does not run.
    """
    session, reference = open_graph(graph), file.runner()
    cases: list[Case] = []
    for done, (kind, feeds) in enumerate(batches, 1):
        cases += _compared(session, file, reference(feeds), kind, feeds, outputs)
        step(done, len(batches))
    second = Second("the file", "the file without optimizations", lambda: _again(file, cases))
    try:
        return agreement_with(cases, second)
    except VerificationError as error:
        if file.traced is None:
            raise
        raise VerificationError(str(error).replace(REPORT, _OF_ONE_SIZE)) from error


def compare_half(graph: Path, file: File, outputs: Sequence[str], batches: Batches) -> float:
    """The largest relative difference of a canonical graph from a file in FP16.

    Raises:
        VerificationError: it is above `HALF_TOLERANCE`.
    """
    session, reference = open_graph(graph), file.runner()
    largest = 0.0
    for kind, feeds in batches:
        for case in _compared(session, file, reference(feeds), kind, feeds, outputs):
            largest = max(largest, case.difference / (case.size or 1.0))
    if not largest <= HALF_TOLERANCE:  # so that NaN fails as well
        raise VerificationError(
            f"In FP32 the graph differs from the FP16 file by {largest:.1e} of the largest output, "
            f"and at most {HALF_TOLERANCE} was expected. {REPORT}"
        )
    return largest


def check_longest(graph: Path, names: Sequence[str], length: int, padding: int) -> None:
    """Run one row as long as config.json allows.

    Raises:
        CheckpointError: the graph takes fewer tokens.
    """
    ids = np.full((1, length), padding + 1, np.int64)
    given = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }
    try:
        open_graph(graph).run(None, {name: given[name] for name in names})
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise CheckpointError(
            f"By config.json a row may have {length} tokens, and the file does not run on so many: "
            f"{' '.join(str(error).split())[:200]} Correct max_position_embeddings there, or "
            "model_max_length in tokenizer_config.json."
        ) from error


def _compared(
    session: onnxruntime.InferenceSession,
    file: File,
    expected: Mapping[str, Array],
    kind: str,
    feeds: Mapping[str, Array],
    outputs: Sequence[str],
) -> list[Case]:
    batch, length = feeds["input_ids"].shape
    where = f"{kind}, batch {batch}, sequence {length}"
    try:
        found = session.run(list(outputs), dict(feeds))
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise VerificationError(
            f"The exported graph does not run ({where}): {error}. {REPORT}"
        ) from error
    cases = [
        Case(where, name, dict(feeds), expected[name], file.of_tokens(name, array, feeds))
        for name, array in zip(outputs, found, strict=True)
    ]
    for case in cases:
        check_comparable(case)
    return cases


def _again(file: File, cases: Sequence[Case]) -> list[Array]:
    run = file.runner(optimized=False)
    return [run(case.feeds)[case.name] for case in cases]
