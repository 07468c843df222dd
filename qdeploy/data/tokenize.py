"""Texts into token batches, exactly as transformers' tokenizer of the same directory does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.data.batches import Batch, Encoded, Padding
from qdeploy.data.excerpt import Excerpts, Part, is_long
from qdeploy.data.frame import Frame, longest_first
from qdeploy.data.kept_tokens import Kept, KeptRow
from qdeploy.data.kept_tokens import Token as Token
from qdeploy.data.lengths import check_whole
from qdeploy.data.rows import Rows
from qdeploy.data.tokenizer_files import TokenizerFacts, read_tokenizer
from qdeploy.data.windows import Cutter, Windows
from qdeploy.errors import DataError, ModelError
from qdeploy.files.integrity import SHA256
from qdeploy.types import Array

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


_CHUNK_ROWS, _CHUNK_CHARACTERS = 512, 1 << 20  # tokenized at a time
_FIELDS = ("input_ids", "attention_mask", "token_type_ids")  # what rows can give, by input name


class TextEncoder:
    """The tokenizer of a model or engine directory.

    Args:
        tokenizer: it is changed here, and never again.
        facts: what its model expects.

    Raises:
        ModelError: the model has an input that no tokenizer gives.

    Attributes:
        max_length: what the model takes, tokens.
        input_names: the model's inputs, in order.
        special_tokens: ids of the tokens that mark where a row or a text starts and ends, by name.
        unknown_id: id of the token for what the vocabulary lacks, or None.
        one_text: a row is one text; of pairs every text becomes a row.
        prompt: stands in front of every text that comes without one.
    """

    def __init__(self, tokenizer: Tokenizer, facts: TokenizerFacts) -> None:
        unknown = [name for name in facts.input_names if name not in _FIELDS]
        if unknown:
            raise ModelError(
                f"{facts.origin}The model takes the input '{unknown[0]}', and a tokenizer gives "
                f"{', '.join(_FIELDS)} only. Export the model without it."
            )
        # tokenizer.json may hold the padding of the day it was saved; transformers ignores it too.
        # Rows are cut here: what `tokenizers` cuts off it keeps, of pairs in every combination. So
        # the tokenizer is never changed again, and threads share it.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._excerpts = Excerpts(tokenizer, facts.truncation_side)
        self._frames: dict[bool, Frame] = {}
        pad = dict.fromkeys(facts.input_names, 0) | {"input_ids": facts.pad_token_id}
        self._padding = Padding({name: pad[name] for name in facts.input_names}, facts.padding_side)
        self._truncation_side = facts.truncation_side
        self.input_names = facts.input_names
        self.max_length = facts.max_length
        self.special_tokens = facts.special_tokens
        self.unknown_id = facts.unknown_id
        self.one_text, self.prompt = facts.one_text, facts.prompt
        self._vocabulary = facts.vocabulary

    @classmethod
    def from_directory(cls, directory: str | Path, *, how: str = SHA256) -> TextEncoder:
        """Read `tokenizer.json`, `tokenizer_config.json` and `qdeploy.json`.

        Args, raises: of `read_tokenizer`.
        """
        return cls(*read_tokenizer(directory, how=how))

    def encode(
        self, rows: Rows, max_length: int | None = None, *, prompt: str | None = None
    ) -> Encoded:
        """Tokenize as transformers does with `truncation=True`: the longer text is cut first.

        Args:
            rows: texts or pairs; `Rows.singles` of them where a row is one text.
            max_length: tokens kept of a row, special tokens included; None: the model's limit.
            prompt: stands in front of every text; None is the model's own.

        Raises:
            DataError: `max_length` is more than the model takes, or leaves no room for text, or a
                row holds a token that the model has no embedding for.
        """
        rows = self._asked(rows, prompt)
        limit = self._limit(max_length, pair=rows.second is not None)
        tokens: dict[str, list[Array]] = {name: [] for name in self.input_names}
        alike: dict[tuple[int, ...], dict[str, Array]] = {}
        lengths, truncated = [], 0
        for at, row in enumerate(self._rows(rows, limit, self._tokenizer.encode_batch_fast)):
            ids, types = row.frame.around([text.ids for text in row.texts])
            self._check_embedded(at, ids)
            shares = tuple(text.count for text in row.texts)
            if shares not in alike:
                mask = np.ones(len(ids), np.int32)
                alike[shares] = {
                    "token_type_ids": np.array(types, np.int32),
                    "attention_mask": mask,
                }
            columns = {"input_ids": np.array(ids, np.int32)} | alike[shares]
            for name, column in tokens.items():
                column.append(columns[name])
            lengths.append(len(ids))
            truncated += row.truncated
        return Encoded(tokens, np.array(lengths, np.int64), truncated, limit)

    def spelled(self, rows: Rows, max_length: int | None = None) -> list[list[Token | None]]:
        """The tokens that `encode` keeps of each row, with their place; None for special ones.

        Args, raises: of `encode`.
        """
        limit = self._limit(max_length, pair=rows.second is not None)
        found = []
        for row in self._rows(rows, limit, self._tokenizer.encode_batch):
            texts, line = iter(row.texts), list[Token | None]()
            for number in row.frame.ids:
                line += next(texts).spelled() if number is None else [None]
            found.append(line)
        return found

    def windows(
        self, rows: Rows, max_length: int | None = None, stride: int | None = None
    ) -> Windows:
        """Pairs of a question and a context, long contexts in windows; no token is cut off.

        Args:
            rows: pairs.
            max_length: tokens of a window, special tokens included; None: the model's limit.
            stride: of `qdeploy.data.windows.Cutter`.

        Raises:
            DataError: of `encode`; a question that leaves no room, a context without tokens.
        """
        assert rows.second is not None
        frame, at = self._frame(True), 0
        limit = self._limit(max_length, pair=True)
        cutter = Cutter(frame, limit, stride, left=self._truncation_side == "left")
        for chunk in _chunks(zip(rows.first, rows.second, strict=True)):
            texts = [text for row in chunk for text in row]
            found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
            for question, context in zip(found[0::2], found[1::2], strict=True):
                self._check_embedded(at, question.ids + context.ids)
                cutter.add(at, question, context)
                at += 1
        return cutter.windows(self.input_names)

    def _asked(self, rows: Rows, prompt: str | None) -> Rows:
        """The texts as the model is to read them."""
        before = self.prompt if prompt is None else prompt
        if self.one_text and rows.second is not None:
            rows = rows.singles()
        return replace(rows, first=tuple(before + text for text in rows.first)) if before else rows

    def _rows(
        self, rows: Rows, limit: int, batch: Callable[..., list[Encoding]]
    ) -> Iterator[KeptRow]:
        """What is kept of each row; of so many at a time that their tokens take little memory."""
        frame = self._frame(rows.second is not None)
        room = limit - frame.special
        whole = zip(rows.first, *([] if rows.second is None else [rows.second]), strict=True)
        for chunk in _chunks(whole):
            texts = [text for row in chunk for text in row]
            short = iter(
                batch([t for t in texts if not is_long(t, room)], add_special_tokens=False)
            )
            parts = iter(
                [
                    self._excerpts.of(text, room)
                    if is_long(text, room)
                    else Part(next(short), 0, whole=True)
                    for text in texts
                ]
            )
            for row in chunk:
                yield self._row(frame, row, [next(parts) for _ in row], room)

    def _row(self, frame: Frame, texts: Sequence[str], parts: Sequence[Part], room: int) -> KeptRow:
        counts = [len(part.encoding) for part in parts]
        shares = longest_first(counts, room)
        cut = not all(part.whole for part in parts)
        if len(parts) == 2 and cut and room % 2 and min(counts) > room:
            # the odd token belongs to the text with more tokens, and the parts do not tell which
            more, less = room - room // 2, room // 2
            shares = (more, less) if self._excerpts.has_more(*texts) else (less, more)
        left = self._truncation_side == "left"
        kept = [
            Kept(part, count - share if left else 0, share)
            for part, count, share in zip(parts, counts, shares, strict=True)
        ]
        return KeptRow(frame, kept, sum(counts) > room)

    def batches(
        self,
        encoded: Encoded,
        batch_size: int,
        sort: bool = True,
        pad_to: int | None = None,
        max_tokens: int | None = None,
        max_pairs: int | None = None,
    ) -> Iterator[Batch]:
        """Padded batches of rows of `encode`; arguments and errors of `Padding.batches`."""
        return self._padding.batches(encoded, batch_size, sort, pad_to, max_tokens, max_pairs)

    def _check_embedded(self, at: int, ids: Sequence[int]) -> None:
        """Refuse tokens that were added to the tokenizer and never got a row in the model."""
        rows = self._vocabulary
        if rows is None or max(ids, default=0) < rows:
            return
        number = next(i for i in ids if i >= rows)
        raise DataError(
            f"Row {at + 1} holds the token '{self._tokenizer.id_to_token(number)}' (id {number}), "
            f"and the model embeds {rows} tokens, 0 to {rows - 1}: it was added to the tokenizer "
            "without a row in the model. Leave it out of the texts, or call "
            "`model.resize_token_embeddings(len(tokenizer))`, train and export anew."
        )

    def continues_word(self, text: str, token: Token) -> bool:
        """Whether a token goes on with the word of the one before it, as transformers tells it.

        Of a WordPiece tokenizer its prefix says so. Of others a token goes on where no blank stands
        in front of it or begins it.
        """
        if token.id == self.unknown_id:
            return False
        if getattr(self._tokenizer.model, "continuing_subword_prefix", None):
            return len(token.text) != token.end - token.start
        return token.start > 0 and " " not in text[token.start - 1 : token.start + 1]

    def _frame(self, pair: bool) -> Frame:
        """The special tokens; threads that ask for the first time find the same."""
        if pair not in self._frames:
            self._frames[pair] = Frame.of(self._tokenizer, 2 if pair else 1)
        return self._frames[pair]

    def least_tokens(self, *, pair: bool) -> int:
        """Tokens that a row needs at least: one of each text, and the special ones."""
        return self._frame(pair).special + (2 if pair else 1)

    def _limit(self, max_length: int | None, *, pair: bool) -> int:
        limit = self.max_length if max_length is None else max_length
        check_whole("max_length", limit)
        if limit > self.max_length:
            raise DataError(
                f"Rows of up to {limit} tokens were asked for, and the model takes at most "
                f"{self.max_length}. Pass a sequence length of {self.max_length} or less."
            )
        special, least = self._frame(pair).special, self.least_tokens(pair=pair)
        if limit < least:
            raise DataError(
                f"A row of {limit} tokens has no room for text beside its {special} special "
                f"tokens. Pass a sequence length of {least} or more."
            )
        return limit


def _chunks(rows: Iterable[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Rows by the hundred, fewer of long ones."""
    chunk: list[tuple[str, ...]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(map(len, row))
        if len(chunk) == _CHUNK_ROWS or size > _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
