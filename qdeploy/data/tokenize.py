"""Texts into token batches, exactly as transformers' tokenizer of the same directory does it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qdeploy.artifact import kind_of, read_json, read_manifest
from qdeploy.data.lengths import RowLengths
from qdeploy.data.rows import Rows
from qdeploy.errors import DataError, ModelError, PlanError
from qdeploy.integrity import SHA256, verify
from qdeploy.schemas import TokenizerConfig, check

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Array = npt.NDArray[Any]

FILES = ("tokenizer.json", "tokenizer_config.json")
# Keys of tokenizer_config.json.
_MARKS = ("cls_token", "bos_token", "sep_token", "eos_token")
_LIMITS_KEPT = 4  # tokenizers, one for each limit of a row
# What the tokenizer can give, by input name.
_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


@dataclass(frozen=True)
class Encoded:
    """Tokens of many rows, without padding.

    Attributes:
        tokens: per input name, one int64 array [S of the row] per row.
        lengths: int64 [N], tokens of each row.
        truncated: how many rows were cut.
        max_length: the limit that cut them, tokens.
    """

    tokens: dict[str, list[Array]]
    lengths: Array
    truncated: int
    max_length: int

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def row_lengths(self) -> RowLengths:
        """What was kept and what was cut, without the tokens."""
        return RowLengths(tuple(self.lengths.tolist()), self.truncated, self.max_length)


@dataclass(frozen=True)
class Batch:
    """Padded inputs of an engine.

    Attributes:
        feeds: per input name, int64 [B, S].
        index: int64 [B], the row that each batch row came from.
    """

    feeds: dict[str, Array]
    index: Array


class TextEncoder:
    """The tokenizer of a model or engine directory.

    Attributes:
        max_length: what the model takes, tokens.
        input_names: the model's inputs, in order.
        special_tokens: ids of the tokens that mark where a row or a text starts and ends, by name.
        unknown_id: id of the token for what the vocabulary lacks, or None.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        input_names: Sequence[str],
        max_length: int,
        pad_token_id: int = 0,
        truncation_side: str = "right",
        padding_side: str = "right",
        special_tokens: Mapping[str, int] | None = None,
        unknown_id: int | None = None,
        vocabulary: int | None = None,
        origin: str = "",
    ) -> None:
        unknown = [name for name in input_names if name not in _FIELDS]
        if unknown:
            raise ModelError(
                f"{origin}The model takes the input '{unknown[0]}', and a tokenizer gives "
                f"{', '.join(_FIELDS)} only. Export the model without it."
            )
        # tokenizer.json may hold the padding of the day it was saved; transformers ignores it too
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._cutting: dict[int, Tokenizer] = {}
        self._lock = threading.Lock()
        self._pad = dict.fromkeys(input_names, 0) | {"input_ids": pad_token_id}
        self._truncation_side = truncation_side
        self._padding_side = padding_side
        self.input_names = tuple(input_names)
        self.max_length = max_length
        self.special_tokens = dict(special_tokens or {})
        self.unknown_id = unknown_id
        self._vocabulary = vocabulary

    @classmethod
    def from_directory(cls, directory: str | Path, *, how: str = SHA256) -> TextEncoder:
        """Read `tokenizer.json`, `tokenizer_config.json` and `qdeploy.json`.

        Args:
            how: of `qdeploy.integrity.verify`.

        Raises:
            ModelError: not a model or engine directory, or its tokenizer is missing, broken or
                another one than the manifest lists.
        """
        path = Path(directory)
        manifest = read_manifest(path, "engine" if kind_of(path) == "engine" else "model")
        verify(path, manifest, FILES, how=how)
        config = _config(path)
        tokenizer = _load(path / FILES[0])
        return cls(
            tokenizer,
            input_names=manifest["inputs"],
            max_length=manifest["max_length"],
            pad_token_id=manifest["pad_token_id"],
            truncation_side=config.get("truncation_side", "right"),
            padding_side=config.get("padding_side", "right"),
            special_tokens=_specials(tokenizer, config),
            unknown_id=_token_id(tokenizer, config.get("unk_token")),
            vocabulary=manifest.get("vocabulary"),
            origin=f"{path}: ",
        )

    def encode(self, rows: Rows, max_length: int | None = None) -> Encoded:
        """Tokenize as transformers does with `truncation=True`: the longer text is cut first.

        Args:
            rows: texts or pairs.
            max_length: tokens kept of a row, special tokens included; None: the model's limit.

        Raises:
            DataError: `max_length` is more than the model takes, or leaves no room for text, or a
                row holds a token that the model has no embedding for.
        """
        encodings, limit = self.encodings(rows, max_length)
        return Encoded(
            tokens={name: _column(encodings, name) for name in self.input_names},
            lengths=np.array([len(encoding.ids) for encoding in encodings], np.int64),
            truncated=sum(bool(encoding.overflowing) for encoding in encodings),
            max_length=limit,
        )

    def encodings(self, rows: Rows, max_length: int | None = None) -> tuple[list[Encoding], int]:
        """What `tokenizers` says of each row (tokens, offsets, special tokens), and the limit.

        Args, raises: of `encode`.
        """
        limit = self._limit(max_length, pair=rows.second is not None)
        texts: list[Any] = (
            list(rows.first)
            if rows.second is None
            else list(zip(rows.first, rows.second, strict=True))
        )
        encodings = list(self._cutting_at(limit).encode_batch(texts, add_special_tokens=True))
        self._check_embedded(encodings)
        return encodings, limit

    def batches(
        self,
        encoded: Encoded,
        batch_size: int,
        sort: bool = True,
        pad_to: int | None = None,
        max_tokens: int | None = None,
        max_pairs: int | None = None,
    ) -> Iterator[Batch]:
        """Padded batches; the last one may be smaller.

        Args:
            encoded: rows of `encode`.
            batch_size: rows of a batch.
            sort: longest rows first, so that little is padding and the largest batch comes first.
            pad_to: tokens S of every batch; the longest row of each batch by default.
            max_tokens: B · S of a batch at most (a single longer row passes), so that memory does
                not depend on how long the rows are; needs `sort`.
            max_pairs: B · S² of a batch at most, likewise: what attention holds per head.

        Raises:
            PlanError: `batch_size` is below 1.
            DataError: a row is longer than `pad_to`.
        """
        if not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise PlanError(f"batch size is {batch_size}, and a whole number from 1 is needed.")
        order = np.arange(len(encoded))
        if sort:
            order = np.argsort(-encoded.lengths, kind="stable")
        start = 0
        while start < len(encoded):
            rows = batch_size
            longest = pad_to or int(encoded.lengths[order[start]])
            for bound, each in ((max_tokens, longest), (max_pairs, longest**2)):
                if bound is not None:
                    rows = max(1, min(rows, bound // max(each, 1)))
            index = order[start : start + rows].astype(np.int64)
            start += rows
            width = int(encoded.lengths[index].max())
            if pad_to is not None and width > pad_to:
                raise DataError(
                    f"A row has {width} tokens, and batches of {pad_to} were asked for. Encode "
                    f"with max_length={pad_to}."
                )
            yield Batch(self._pad_rows(encoded, index, pad_to or width), index)

    def _pad_rows(self, encoded: Encoded, index: Array, width: int) -> dict[str, Array]:
        feeds = {}
        for name in self.input_names:
            padded = np.full((len(index), width), self._pad[name], np.int64)
            for at, row in enumerate(index):
                tokens = encoded.tokens[name][row]
                start = width - len(tokens) if self._padding_side == "left" else 0
                padded[at, start : start + len(tokens)] = tokens
            feeds[name] = padded
        return feeds

    def _check_embedded(self, encodings: Sequence[Encoding]) -> None:
        """Refuse tokens that were added to the tokenizer and never got a row in the model."""
        rows = self._vocabulary
        if rows is None:
            return
        for at, encoding in enumerate(encodings):
            if max(encoding.ids, default=0) < rows:
                continue
            number = next(i for i in encoding.ids if i >= rows)
            token = encoding.tokens[encoding.ids.index(number)]
            raise DataError(
                f"Row {at + 1} holds the token '{token}' (id {number}), and the model embeds "
                f"{rows} tokens, 0 to {rows - 1}: it was added to the tokenizer without a row in "
                "the model. Leave it out of the texts, or call "
                "`model.resize_token_embeddings(len(tokenizer))`, train and export anew."
            )

    def _cutting_at(self, limit: int) -> Tokenizer:
        """The tokenizer that cuts rows there; threads share it: it is never changed again."""
        with self._lock:
            found = self._cutting.get(limit)
            if found is None:
                found = self._tokenizer
                if self._cutting:  # in use, and a copy of a large one takes half a second
                    found = type(found).from_str(found.to_str())
                found.enable_truncation(
                    limit, stride=0, strategy="longest_first", direction=self._truncation_side
                )
                if len(self._cutting) == _LIMITS_KEPT:
                    del self._cutting[next(iter(self._cutting))]
                self._cutting[limit] = found
            return found

    def _limit(self, max_length: int | None, *, pair: bool) -> int:
        limit = self.max_length if max_length is None else max_length
        if limit > self.max_length:
            raise DataError(
                f"Rows of up to {limit} tokens were asked for, and the model takes at most "
                f"{self.max_length}. Pass a sequence length of {self.max_length} or less."
            )
        special = self._tokenizer.num_special_tokens_to_add(pair)
        least = special + (2 if pair else 1)
        if limit < least:
            raise DataError(
                f"A row of {limit} tokens has no room for text beside its {special} special "
                f"tokens. Pass a sequence length of {least} or more."
            )
        return limit


def _column(encodings: Sequence[Encoding], name: str) -> list[Array]:
    return [np.array(getattr(encoding, _FIELDS[name]), np.int64) for encoding in encodings]


def _config(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json; empty where there is none."""
    path = directory / FILES[1]
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(path)
    check(found, TokenizerConfig, path, "Export the model anew.")
    return found


def _specials(tokenizer: Tokenizer, config: Mapping[str, Any]) -> dict[str, int]:
    """The marking tokens of a tokenizer."""
    found: dict[str, int] = {}
    for key in _MARKS:
        number = _token_id(tokenizer, config.get(key))
        if number is not None and number not in found.values():
            found[str(tokenizer.id_to_token(number))] = number
    return found


def _token_id(tokenizer: Tokenizer, token: Any) -> int | None:
    """Its number; an older configuration wraps a token in an object."""
    name = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(name) if isinstance(name, str) else None


def _load(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise ModelError(f"{path} is missing. Export the model anew: export writes it.")
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(
            f"{path} cannot be read as a tokenizer: {error}. Export the model anew."
        ) from error
