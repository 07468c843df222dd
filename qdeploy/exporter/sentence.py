"""An encoder and what stands behind it as one torch module, so that the graph has all of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from qdeploy.errors import CheckpointError
from qdeploy.exporter.sentence_parts import (
    Dense,
    LayerNorm,
    Normalize,
    Part,
    Pooling,
    SentenceParts,
    weight_file,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Classes of torch.nn that sentence-transformers writes under these modules; no other is imported.
_ACTIVATIONS = ("torch.nn.modules.activation.", "torch.nn.modules.linear.Identity", "torch.nn.")
_LEAST_COUNT = 1e-9  # of tokens, as in sentence-transformers: a row of padding alone is no NaN


@dataclass
class SentenceOutput(ModelOutput):
    """FP32 `sentence_embedding` [B, D], and `token_embeddings` [B, S, H] of the encoder."""

    sentence_embedding: Tensor | None = None
    token_embeddings: Tensor | None = None


class SentenceEncoder(nn.Module):
    """An encoder with pooling and what follows it.

    Its parameters have the names that a head of the encoder's family gives them
    (`bert.encoder.layer.0…`), so that sites are called alike.
    """

    def __init__(self, encoder: PreTrainedModel, parts: SentenceParts) -> None:
        super().__init__()
        self.base_model_prefix: str = encoder.base_model_prefix
        self.config: PreTrainedConfig = encoder.config
        setattr(self, self.base_model_prefix, encoder)
        self.parts = nn.ModuleList(_module(part) for part in parts.parts)
        self._takes = tuple(inspect.signature(encoder.forward).parameters)

    @property
    def encoder(self) -> PreTrainedModel:
        """The encoder alone."""
        found: PreTrainedModel = getattr(self, self.base_model_prefix)
        return found

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        found: nn.Module = self.encoder.get_input_embeddings()
        return found

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SentenceOutput:
        """Inputs int64 [B, S]."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None and "token_type_ids" in self._takes:
            given["token_type_ids"] = token_type_ids
        tokens = self.encoder(**given)[0]
        pooling, *others = self.parts
        found = pooling(tokens, attention_mask)
        for part in others:
            found = part(found)
        return SentenceOutput(sentence_embedding=found, token_embeddings=tokens)


class _Pooling(nn.Module):
    """Vectors of tokens [B, S, H] → [B, modes · H]; padding is left out.

    The formulas are those of sentence-transformers. A row begins with its first token: padding
    stands on the right (`TextEncoder`).
    """

    def __init__(self, modes: tuple[str, ...]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found = [getattr(self, f"_{mode}")(tokens, mask) for mode in self.modes]
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)

    def _cls(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens[:, 0]

    def _max(self, tokens: Tensor, mask: Tensor) -> Tensor:
        least = torch.finfo(tokens.dtype).min
        found = tokens.masked_fill(mask[..., None] == 0, least).amax(dim=1)
        return found * mask.amax(dim=1)[:, None].to(tokens.dtype)  # 0 of a row of padding alone

    def _mean(self, tokens: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].to(tokens.dtype)
        return _sum(tokens, kept) / _count(kept)

    def _mean_sqrt_len_tokens(self, tokens: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].to(tokens.dtype)
        return _sum(tokens, kept) / torch.sqrt(_count(kept))

    def _weightedmean(self, tokens: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(1, tokens.shape[1] + 1, device=tokens.device).to(tokens.dtype)
        kept = mask[..., None].to(tokens.dtype) * places[None, :, None]
        return _sum(tokens, kept) / _count(kept)

    def _lasttoken(self, tokens: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        last = (mask * places).amax(dim=1)  # the last place that is no padding
        kept = (places[None] == last[:, None])[..., None].to(tokens.dtype)
        return _sum(tokens, kept)


def _sum(tokens: Tensor, weights: Tensor) -> Tensor:
    return (tokens * weights).sum(dim=1)


def _count(weights: Tensor) -> Tensor:
    return torch.clamp(weights.sum(dim=1), min=_LEAST_COUNT)


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int, activation: nn.Module, *, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias)
        self.activation_function = activation

    def forward(self, found: Tensor) -> Tensor:
        result: Tensor = self.activation_function(self.linear(found))
        return result


class _LayerNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)

    def forward(self, found: Tensor) -> Tensor:
        result: Tensor = self.norm(found)
        return result


class _Normalize(nn.Module):
    def forward(self, found: Tensor) -> Tensor:
        return nn.functional.normalize(found, p=2.0, dim=-1)


def _module(part: Part) -> nn.Module:
    if isinstance(part, Pooling):
        return _Pooling(part.modes)
    if isinstance(part, Normalize):
        return _Normalize()
    if isinstance(part, LayerNorm):
        return _filled(_LayerNorm(part.size), part.folder)
    assert isinstance(part, Dense)
    activation = _activation(part.activation, part.folder)
    return _filled(_Dense(part.inputs, part.outputs, activation, bias=part.bias), part.folder)


def _activation(named: str, folder: Path) -> nn.Module:
    """An activation function of torch.nn.

    Raises:
        CheckpointError: something else, which is not imported.
    """
    name = named.rpartition(".")[2]
    kind = getattr(nn, name, None) if named.startswith(_ACTIVATIONS) else None
    try:
        assert isinstance(kind, type) and issubclass(kind, nn.Module)
        return kind()
    except (AssertionError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} names the activation function {named}, and only those of "
            "torch.nn without arguments are known (torch.nn.modules.activation.Tanh)."
        ) from error


def _filled(module: nn.Module, folder: Path) -> nn.Module:
    """The module with its weights.

    Raises:
        CheckpointError: they cannot be read, or are of other names or shapes.
    """
    path = weight_file(folder)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict({name: value.float() for name, value in weights.items()})
    except Exception as error:  # safetensors, pickle and torch each raise their own
        raise CheckpointError(
            f"The weights of {path} do not fit its config.json: "
            f"{' '.join(str(error).split())[:300]} Save the model again with "
            "`SentenceTransformer(...).save(...)`."
        ) from error
    return module
