"""What a model or engine directory says of its tokenizer, and the tokenizer itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.data.lengths import USUAL_LIMIT
from qdeploy.errors import ModelError
from qdeploy.files.artifact import kind_of, read_json, read_manifest
from qdeploy.files.integrity import SHA256, verify
from qdeploy.head import EMBEDDINGS, default_prompt
from qdeploy.schemas.checked import check
from qdeploy.schemas.tokenizer import TokenizerConfig
from qdeploy.types import Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json")
_NO_LIMIT = 1_000_000  # transformers writes 10³⁰ where a tokenizer has none
# Keys of tokenizer_config.json.
_MARKS = ("cls_token", "bos_token", "sep_token", "eos_token")


@dataclass(frozen=True)
class TokenizerFacts:
    """What a model expects of its tokenizer.

    Attributes:
        input_names: the model's inputs, in order.
        max_length: what the model takes, tokens.
        pad_token_id: id that fills rows up.
        truncation_side, padding_side: "left" or "right": where rows are cut, and filled up.
        special_tokens: ids of the tokens that mark where a row or a text starts and ends, by name.
        unknown_id: id of the token for what the vocabulary lacks, or None.
        vocabulary: rows of the embedding table; None where the manifest does not say.
        one_text: a row is one text: its model embeds texts, and compares their vectors.
        prompt: stands in front of every text that comes without one.
        origin: what stands in front of an error's text: the directory and a colon, or nothing.
    """

    input_names: tuple[str, ...]
    max_length: int
    pad_token_id: int = 0
    truncation_side: str = "right"
    padding_side: str = "right"
    special_tokens: dict[str, int] = field(default_factory=dict)
    unknown_id: int | None = None
    vocabulary: int | None = None
    one_text: bool = False
    prompt: str = ""
    origin: str = ""


def read_tokenizer(directory: str | Path, *, how: str = SHA256) -> tuple[Tokenizer, TokenizerFacts]:
    """Read `tokenizer.json`, `tokenizer_config.json` and `qdeploy.json`.

    Args:
        directory: of a model or engine.
        how: of `qdeploy.files.integrity.verify`.

    Raises:
        ModelError: not a model or engine directory, or its tokenizer is missing, broken or another
            one than the manifest lists.
    """
    path = Path(directory)
    manifest = read_manifest(path, "engine" if kind_of(path) == "engine" else "model")
    verify(path, manifest, FILES, how=how)
    form, config = _config(path)
    tokenizer = _load(path / FILES[0])
    return tokenizer, TokenizerFacts(
        input_names=tuple(manifest["inputs"]),
        max_length=manifest["max_length"],
        pad_token_id=manifest["pad_token_id"],
        truncation_side=form.truncation_side,
        padding_side=form.padding_side,
        special_tokens=_specials(tokenizer, config),
        unknown_id=_token_id(tokenizer, config.get("unk_token")),
        vocabulary=manifest.get("vocabulary"),
        one_text=manifest["task"] == EMBEDDINGS,
        prompt=default_prompt(manifest),
        origin=f"{path}: ",
    )


def read_plain_tokenizer(
    directory: Path,
    *,
    input_names: tuple[str, ...],
    positions: int | None,
    pad_token_id: int,
    vocabulary: int | None,
    one_text: bool,
) -> tuple[Tokenizer, TokenizerFacts]:
    """The same of a directory that qdeploy did not write, for a graph whose facts are known.

    Args:
        directory: with a tokenizer.json.
        positions: tokens that the model takes, as its configuration says; None where it does not.
        input_names, pad_token_id, vocabulary, one_text: of `TokenizerFacts`.

    Raises:
        ModelError: the tokenizer cannot be read.
    """
    form, config = _config(directory)
    tokenizer = _load(directory / FILES[0])
    limits = [positions, config.get("model_max_length")]
    known = [n for n in limits if isinstance(n, int) and 0 < n < _NO_LIMIT]
    padding = _token_id(tokenizer, config.get("pad_token"))
    return tokenizer, TokenizerFacts(
        input_names=input_names,
        max_length=min(known, default=USUAL_LIMIT),
        pad_token_id=pad_token_id if padding is None else padding,
        truncation_side=form.truncation_side,
        padding_side=form.padding_side,
        special_tokens=_specials(tokenizer, config),
        unknown_id=_token_id(tokenizer, config.get("unk_token")),
        vocabulary=vocabulary,
        one_text=one_text,
        origin=f"{directory}: ",
    )


def _config(directory: Path) -> tuple[TokenizerConfig, dict[str, Json]]:
    """tokenizer_config.json, as checked and whole; empty where there is none."""
    path = directory / FILES[1]
    if not path.is_file():
        return TokenizerConfig(), {}
    found: dict[str, Json] = read_json(path)
    return check(found, TokenizerConfig, path, "Export the model anew."), found


def _specials(tokenizer: Tokenizer, config: Mapping[str, Json]) -> dict[str, int]:
    """The marking tokens of a tokenizer."""
    found: dict[str, int] = {}
    for key in _MARKS:
        number = _token_id(tokenizer, config.get(key))
        if number is not None and number not in found.values():
            found[str(tokenizer.id_to_token(number))] = number
    return found


def _token_id(tokenizer: Tokenizer, token: object) -> int | None:
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
