"""Checkpoint → torch model in FP32, every parameter of it trained and finite."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch
import transformers

from qdeploy.errors import CheckpointError
from qdeploy.exporter.adapter import merge_adapter, stored_parameters
from qdeploy.exporter.checkpoint import Checkpoint
from qdeploy.exporter.quiet import quiet
from qdeploy.exporter.settings import check_settings, normalise
from qdeploy.exporter.tasks import Task
from qdeploy.exporter.unread import check_unread
from qdeploy.exporter.weight_files import stored_shapes
from qdeploy.head import EMBEDDINGS
from qdeploy.names import few

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

_SHOWN = 3  # names listed in an error text


class LoadingInfo(TypedDict):
    """What transformers says of the tensors that it loaded; of shapes: stored, then wanted."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, Sequence[int], Sequence[int]]]


def load_model(checkpoint: Checkpoint, task: Task) -> PreTrainedModel:
    """Load the weights in FP32 with eager attention, merge the adapter, and vet every tensor.

    Args:
        checkpoint: from `find_checkpoint`.
        task: of its head.

    Returns:
        A transformers model in evaluation mode, on the CPU; its `config` names the classes. Of
        embeddings the encoder alone: `qdeploy.exporter.sentence` has the rest.

    Raises:
        CheckpointError: a configuration that cannot be exported, weights that do not fit it or
            that nothing reads, a head that was never trained, NaN or infinity in a weight, or an
            adapter that does not fit.
    """
    supplied = stored_parameters(checkpoint.adapter_file)
    with quiet():
        config = _configuration(checkpoint, task, supplied)
        model, info = _load(checkpoint, task, config, supplied)
        missing = set(info["missing_keys"]) - set(supplied)
        if task.name == EMBEDDINGS:  # whose vectors are those of tokens
            missing = {name for name in missing if not name.startswith("pooler.")}
        check_trained(checkpoint, model, missing)
        adapted = checkpoint.adapter is not None
        where = str(checkpoint.directory)
        check_unread(model, info["unexpected_keys"], where, other_heads=adapted)
        check_finite(model, checkpoint.directory)
        if checkpoint.adapter is not None:
            model = merge_adapter(model, checkpoint.adapter)
            check_finite(model, checkpoint.adapter)
    model.config.architectures = [type(model).__name__]
    return model.float().eval()


def _configuration(
    checkpoint: Checkpoint, task: Task, supplied: Mapping[str, tuple[int, ...]]
) -> PreTrainedConfig:
    """The configuration, with as many classes as the adapter's head has."""
    path = checkpoint.config_directory / "config.json"
    try:
        config = transformers.AutoConfig.from_pretrained(
            checkpoint.config_directory, trust_remote_code=checkpoint.trust_remote_code
        )
    except Exception as error:  # any value in the file may be the wrong one
        raise CheckpointError(
            f"transformers cannot make a configuration of {path}: "
            f"{' '.join(str(error).split())[:300]}. Correct that value, or save the model again "
            "with `model.save_pretrained(...)`."
        ) from error
    check_settings(config, checkpoint.config, path, task)
    normalise(config)
    classes = _head_classes(checkpoint, task, config, supplied)
    if classes is not None and classes != config.num_labels:
        config.num_labels = classes  # transformers names them LABEL_0, LABEL_1, ...
    if checkpoint.labels is not None:
        config.id2label = dict(enumerate(checkpoint.labels))
        config.label2id = {label: index for index, label in enumerate(checkpoint.labels)}
    return config


def _head_classes(
    checkpoint: Checkpoint,
    task: Task,
    config: PreTrainedConfig,
    supplied: Mapping[str, tuple[int, ...]],
) -> int | None:
    """How many classes the head in the adapter has; None where the adapter holds no head.

    The head is found by shape: the parameters that grow with the number of classes.
    """
    if not supplied:
        return None
    with torch.device("meta"):
        small, large = (_shapes(checkpoint, task, config, classes) for classes in (3, 5))
    for name, shape in small.items():
        if shape[:1] == (3,) and large[name][:1] == (5,) and name in supplied:
            return supplied[name][0]
    return None


def _shapes(
    checkpoint: Checkpoint, task: Task, config: PreTrainedConfig, classes: int
) -> dict[str, tuple[int, ...]]:
    config = copy.deepcopy(config)
    config.num_labels = classes
    model = _auto_class(checkpoint, task, config).from_config(
        config, trust_remote_code=checkpoint.trust_remote_code
    )
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def _auto_class(
    checkpoint: Checkpoint, task: Task, config: PreTrainedConfig
) -> type[_BaseAutoModelClass]:
    auto = getattr(transformers, task.auto_class)
    remote = task.auto_class in (getattr(config, "auto_map", None) or {})
    if type(config) not in auto._model_mapping and not remote:
        raise CheckpointError(
            f"The architecture '{config.model_type}' of {checkpoint.name} has no model for "
            f"{task.name} in transformers {transformers.__version__}. Pass another --task, or a "
            "checkpoint of another architecture."
        )
    return auto


def _load(
    checkpoint: Checkpoint,
    task: Task,
    config: PreTrainedConfig,
    supplied: Mapping[str, tuple[int, ...]],
) -> tuple[PreTrainedModel, LoadingInfo]:
    """The model, and what transformers says of its loading.

    Shapes that differ are an error, but for tensors that the adapter brings: a head of other
    classes, or the table of a tokenizer that grew.
    """
    auto = _auto_class(checkpoint, task, config)
    try:
        model, info = auto.from_pretrained(
            checkpoint.directory,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager",  # the graph shows MatMul, Softmax, MatMul
            use_safetensors=checkpoint.weights[0].suffix == ".safetensors",
            output_loading_info=True,
            trust_remote_code=checkpoint.trust_remote_code,
            local_files_only=True,
            adapter_kwargs={},
            ignore_mismatched_sizes=bool(supplied),
        )
    except Exception as error:  # transformers raises many kinds; each means: cannot be loaded
        raise _unloadable(checkpoint, task, config, _cause(checkpoint, task, config, error)) from (
            error
        )
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        if name not in supplied:
            text = _mismatch(name, tuple(stored), tuple(wanted))
            raise _unloadable(checkpoint, task, config, text)
    return model, info


def _unloadable(
    checkpoint: Checkpoint, task: Task, config: PreTrainedConfig, cause: str
) -> CheckpointError:
    return CheckpointError(
        f"transformers cannot load {checkpoint.directory} as {config.model_type} for {task.name}: "
        f"{cause} Check that config.json belongs to these weights, or save the model again with "
        "`model.save_pretrained(...)`."
    )


def _cause(checkpoint: Checkpoint, task: Task, config: PreTrainedConfig, error: Exception) -> str:
    """Why loading failed: the first tensor whose shape differs, else what transformers says."""
    if "size" not in str(error):
        return first_line(error)
    stored = stored_shapes(checkpoint.weights)
    try:
        with torch.device("meta"):
            wanted = _shapes(checkpoint, task, config, config.num_labels)
    except Exception:  # then the error is about something else
        return first_line(error)
    for name, shape in wanted.items():
        if name in stored and stored[name] != shape:
            return _mismatch(name, stored[name], shape)
    return first_line(error)


def _mismatch(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return f"{name} is {list(stored)} in the files, and config.json makes it {list(wanted)}."


def check_trained(checkpoint: Checkpoint, model: PreTrainedModel, missing: Collection[str]) -> None:
    """Refuse parameters that no file holds: they are random numbers.

    Raises:
        CheckpointError: a head that was never trained, or weights of another model.
    """
    if not missing:
        return
    names = few(sorted(missing), _SHOWN)
    encoder = f"{model.base_model_prefix}."
    total = len(dict(model.named_parameters()))
    if any(name.startswith(encoder) and "pooler" not in name for name in missing):
        raise CheckpointError(
            f"{len(missing)} of {total} parameters of {type(model).__name__} are not in "
            f"{checkpoint.directory}: {names}. The weights belong to another architecture, or some "
            "are missing. Check config.json, or save the model again with "
            "`model.save_pretrained(...)`."
        )
    raise CheckpointError(
        f"The head of {checkpoint.name} was never trained: {names} would be random numbers, since "
        "no weight file holds them. Fine-tune the model and pass the fine-tuned checkpoint, or a "
        "PEFT adapter with the head among its modules_to_save."
    )


def check_finite(model: torch.nn.Module, origin: Path) -> None:
    """Refuse NaN and infinity in a weight.

    Args:
        model: to look through.
        origin: directory that the weights came from, for the text.

    Raises:
        CheckpointError: naming the first such tensor.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise CheckpointError(
                f"{name} of {origin} holds {bad} values of {tensor.numel()} that are NaN or "
                "infinite, so no logit can be right. The training diverged or the file is damaged: "
                "pass an earlier checkpoint, or download it again."
            )


def first_line(error: Exception) -> str:
    """The first line of an error's text, with a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, KeyError):  # whose text is the key alone
        text = f"there is no {text} in transformers {transformers.__version__}"
    return text if text.endswith(".") else f"{text}."
