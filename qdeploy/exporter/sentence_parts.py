"""What stands behind the encoder of a sentence-transformers directory: pooling, Dense, and so on.

`modules.json` lists the parts in order, each with a folder of its own for its configuration and
weights (https://sbert.net/docs/package_reference/base/modules.html; read as releases 2 to 6 write
them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.errors import CheckpointError
from qdeploy.exporter.json_file import json_file
from qdeploy.schemas.manifest import EmbeddingFacts
from qdeploy.sentence_layout import CONFIG, MODULES, POOLING_MODES, SWITCHES, TRANSFORMER_CONFIG
from qdeploy.types import Json

_EMBEDDING = "sentence_embedding"
_KNOWN = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")


@dataclass(frozen=True)
class Pooling:
    """One vector of the vectors of all tokens; of several modes, one behind the other."""

    modes: tuple[str, ...]


@dataclass(frozen=True)
class Dense:
    """A linear layer and an activation function.

    Attributes:
        folder: of its weights, `linear.weight` [out, in] and `linear.bias` [out].
        activation: name of a class of torch.nn.
    """

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class LayerNorm:
    """A layer normalization; `norm.weight` and `norm.bias` lie in `folder`."""

    folder: Path
    size: int


@dataclass(frozen=True)
class Normalize:
    """The vector at length 1."""


Part = Pooling | Dense | LayerNorm | Normalize


@dataclass(frozen=True)
class SentenceParts:
    """An embedding model, without its encoder.

    Attributes:
        parts: in the order in which they run.
        encoder: directory of the encoder and its tokenizer; None where it stands alone.
        max_length: tokens kept of a text, or None.
        lower_case: texts are read in lower case.
        prompts: texts that stand in front of a text, by name.
        default_prompt: name of the prompt of every text that is given without one, or None.
        similarity: how two embeddings compare: "cosine", "dot", "euclidean", "manhattan", or None.
    """

    parts: tuple[Part, ...]
    encoder: Path | None = None
    max_length: int | None = None
    lower_case: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    similarity: str | None = None

    @property
    def pooling(self) -> tuple[str, ...]:
        """The modes of its pooling."""
        return next(part.modes for part in self.parts if isinstance(part, Pooling))

    @property
    def weights(self) -> tuple[Path, ...]:
        """Files of the weights of its parts."""
        folders = [p.folder for p in self.parts if isinstance(p, Dense | LayerNorm)]
        return tuple(weight_file(folder) for folder in folders)


def embedding_facts(parts: SentenceParts, hidden: int) -> EmbeddingFacts:
    """How texts become vectors, for the manifest.

    Args:
        hidden: channels of the encoder.
    """
    sizes = [part.outputs for part in parts.parts if isinstance(part, Dense)]
    return {
        "pooling": list(parts.pooling),
        "dimension": sizes[-1] if sizes else hidden * len(parts.pooling),
        "normalized": isinstance(parts.parts[-1], Normalize),
        "weighted": bool(parts.weights),
        "prompts": dict(parts.prompts),
        "default_prompt": parts.default_prompt,
        "similarity": parts.similarity,
    }


def pooled(mode: str) -> SentenceParts:
    """An encoder with pooling alone."""
    return SentenceParts((Pooling((mode,)),))


def find_parts(directory: Path) -> SentenceParts | None:
    """The parts behind the encoder of a directory; None where it is no embedding model.

    Raises:
        CheckpointError: a part that is not known, or whose configuration says something that a
            graph cannot follow.
    """
    path = directory / MODULES
    listed = [entry for entry in _read(path, list) if isinstance(entry, dict)]
    named = [str(entry.get("type")) for entry in listed]
    kinds = [name.rpartition(".")[2] for name in named]
    if "Pooling" not in kinds:
        return None  # no such file; or a cross-encoder, whose head is the checkpoint's own
    for name, kind in zip(named, kinds, strict=True):
        if kind not in _KNOWN or not name.startswith("sentence_transformers."):
            raise CheckpointError(
                f"{path} has a part {name}, which cannot be exported. Known are "
                f"{', '.join(_KNOWN)} of sentence_transformers."
            )
    if kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Pooling") > 1:
        raise CheckpointError(
            f"{path} lists {', '.join(kinds)}, and a Transformer with one Pooling behind it is "
            "needed first."
        )
    folders = [_inside(directory, str(entry.get("path") or ""), path) for entry in listed]
    parts: list[Part] = []
    for kind, folder in zip(kinds, folders, strict=True):
        parts += _PARTS[kind](folder) if kind in _PARTS else []
    settings = _read(folders[0] / TRANSFORMER_CONFIG, dict)
    more = _read(directory / CONFIG, dict)
    longest, similarity = settings.get("max_seq_length"), more.get("similarity_fn_name")
    prompts, default = _prompts(directory, folders[1], more)
    return SentenceParts(
        tuple(parts),
        encoder=folders[0],
        max_length=longest if isinstance(longest, int) and longest > 0 else None,
        lower_case=bool(settings.get("do_lower_case")),
        prompts=prompts,
        default_prompt=default,
        similarity=similarity if isinstance(similarity, str) else None,
    )


def check_pickles(parts: SentenceParts, *, allow_pickle: bool) -> None:
    """Refuse weights that are not there, or in a pickle that nobody allowed.

    Raises:
        CheckpointError: with the way out.
    """
    for path in parts.weights:
        if not path.is_file():
            raise CheckpointError(
                f"{path.parent} has no weights (model.safetensors). Copy or download it again."
            )
        if path.suffix == ".bin" and not allow_pickle:
            raise CheckpointError(
                f"{path} is a pickle, which can run code of its author when it is read. If you "
                "trust it, pass --allow-pickle; or save the model again as safetensors."
            )


def weight_file(folder: Path) -> Path:
    """The weights of a part: safetensors, or else a pickle."""
    path = folder / "model.safetensors"
    return path if path.is_file() else folder / "pytorch_model.bin"


def _pooling(folder: Path) -> list[Part]:
    config = _read(folder / "config.json", dict)
    given = config.get("pooling_mode")
    if given is None:
        chosen = [mode for switch, mode in SWITCHES.items() if config.get(switch)] or ["mean"]
    else:
        chosen = [given] if isinstance(given, str) else list(given)
    if unknown := [mode for mode in chosen if mode not in POOLING_MODES]:
        raise CheckpointError(
            f"{folder / 'config.json'} pools by {', '.join(map(str, unknown))}. Known are "
            f"{', '.join(POOLING_MODES)}."
        )
    return [Pooling(tuple(chosen))]


def _dense(folder: Path) -> list[Part]:
    path = folder / "config.json"
    config = _read(path, dict)
    if config.get("module_input_name", _EMBEDDING) != _EMBEDDING or (
        config.get("module_output_name") not in (None, _EMBEDDING)
    ):
        raise CheckpointError(
            f"{path} works on {config.get('module_input_name')}, and only Dense layers of "
            f"{_EMBEDDING} are exported."
        )
    named = str(config.get("activation_function") or "torch.nn.modules.linear.Identity")
    return [
        Dense(
            folder,
            int(config["in_features"]),
            int(config["out_features"]),
            bool(config.get("bias", True)),
            named,
        )
    ]


def _layer_norm(folder: Path) -> list[Part]:
    return [LayerNorm(folder, int(_read(folder / "config.json", dict)["dimension"]))]


_PARTS: Mapping[str, Any] = {
    "Pooling": _pooling,
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": lambda folder: [Normalize()],
}


def _prompts(
    directory: Path, pooling: Path, config: Mapping[str, Json]
) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """The prompts by name, and the name of the one that every text gets by default.

    Raises:
        CheckpointError: pooling leaves the prompt's tokens out, or the default has no text.
    """
    listed, default = config.get("prompts"), config.get("default_prompt_name")
    prompts = listed if isinstance(listed, dict) else {}
    if default is not None and default not in prompts:
        raise CheckpointError(
            f"{directory / CONFIG} names the prompt {default!r} as its default, and has "
            f"{', '.join(prompts) or 'none'}. Correct default_prompt_name."
        )
    path = pooling / "config.json"
    if any(prompts.values()) and not _read(path, dict).get("include_prompt", True):
        raise CheckpointError(
            f"{path} leaves the tokens of a prompt out of the pooling (include_prompt: false), and "
            "an exported graph does not know where a prompt ends. Take a model that counts them."
        )
    texts = tuple((str(name), str(text)) for name, text in prompts.items())
    return texts, default if isinstance(default, str) else None


def _inside(directory: Path, path: str, origin: Path) -> Path:
    """A folder of the directory.

    Raises:
        CheckpointError: it lies elsewhere.
    """
    folder = (directory / path).resolve()
    if not folder.is_relative_to(directory.resolve()):
        raise CheckpointError(f"{origin} names {path}, which is outside of its directory.")
    return directory / path if path else directory


def _read(path: Path, kind: type) -> Any:
    """A JSON file; empty where there is none."""
    return json_file(path, kind) if path.is_file() else kind()
