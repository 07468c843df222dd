"""Merge a PEFT adapter into its base, in FP32 whatever the adapter was saved in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from qdeploy.errors import CheckpointError
from qdeploy.exporter.weight_files import stored_shapes
from qdeploy.machine.remedies import install_command, upgrade_command

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_PREFIX = "base_model.model."  # what PEFT writes before every name
# What it writes between the parts of one, by its version and by the kind of the wrapper.
_PARTS = {"modules_to_save", "default", "base_layer", "token_adapter", "original_module"}


def stored_parameters(file: Path | None) -> dict[str, tuple[int, ...]]:
    """Whole parameters that an adapter file carries (`modules_to_save`): name in the base → shape.

    Args:
        file: `adapter_model.safetensors` or `.bin`, or None for none.
    """
    if file is None:
        return {}
    shapes = {_base_name(name): shape for name, shape in stored_shapes([file]).items()}
    return {name: shape for name, shape in shapes.items() if ".lora_" not in name}


def merge_adapter(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """Merge an adapter directory into a base model.

    Args:
        model: the base, FP32.
        directory: with `adapter_config.json` and weights of FP32, FP16 or BF16.

    Returns:
        A model of the base's class. A LoRA weight is W + s·B·A, computed in FP32 from the stored
        values (Hu et al. 2021, arXiv 2106.09685, eq. 3, s = alpha / rank).

        The embedding table gets as many rows as the adapter's has, where it was trained after
        `resize_token_embeddings`.

    Raises:
        CheckpointError: `peft` is missing, the adapter is of a kind that cannot be merged, or it
            does not fit the base.
    """
    peft = _peft(directory)
    try:
        config = peft.PeftConfig.from_pretrained(str(directory))
    except Exception as error:  # an unknown peft_type, or an option of a newer peft
        raise CheckpointError(
            f"{directory}/adapter_config.json cannot be read by peft {peft.__version__}: {error} "
            f"Upgrade with `{upgrade_command('peft')}`."
        ) from error
    if config.is_prompt_learning:
        raise CheckpointError(
            f"{directory} is a {config.peft_type.value} adapter: it adds virtual tokens and cannot "
            "be merged into weights. Train a LoRA adapter instead."
        )
    _resize(model, directory)
    try:
        wrapped = peft.PeftModel.from_pretrained(
            model, str(directory), config=config, torch_device="cpu"
        )
    except Exception as error:  # shapes that differ, target modules that are not there
        raise CheckpointError(
            f"The adapter {directory} does not fit its base {config.base_model_name_or_path}: "
            f"{' '.join(str(error).split())[:300]} Check base_model_name_or_path in "
            "adapter_config.json."
        ) from error
    _check_complete(peft, wrapped, directory)
    _check_read(peft, wrapped, directory)
    return wrapped.float().merge_and_unload()


def _peft(directory: Path) -> ModuleType:
    try:
        import peft
    except ImportError:
        raise CheckpointError(
            f"{directory} is a PEFT adapter, and the package peft is not installed. Run "
            f"`{install_command('export')}`."
        ) from None
    return peft


def _resize(model: PreTrainedModel, directory: Path) -> None:
    """Give the embedding table the rows of the adapter's, whose values then replace its own."""
    table = next((n for n, p in model.named_parameters() if p is _table(model)), None)
    if table is None:
        return
    for name, shape in stored_shapes([_file(directory)]).items():
        own = _base_name(name)
        rows = None
        if own == table and len(shape) == 2:
            rows = shape[0]
        elif own == table.replace("weight", "lora_embedding_A") and len(shape) == 2:
            rows = shape[1]  # A is [rank, rows]
        if rows is not None and rows != model.get_parameter(table).shape[0]:
            model.resize_token_embeddings(rows, mean_resizing=False)
            return


def _table(model: PreTrainedModel) -> torch.Tensor | None:
    return getattr(model.get_input_embeddings(), "weight", None)


def _file(directory: Path) -> Path:
    files = [directory / "adapter_model.safetensors", directory / "adapter_model.bin"]
    return next(path for path in files if path.is_file())


def _check_read(peft: ModuleType, wrapped: PeftModel, directory: Path) -> None:
    """Refuse an adapter whose file holds tensors that no module takes: peft drops them."""
    # by the names of the modules, and by those that peft saves them under (DoRA's differ)
    names = [*wrapped.state_dict(), *peft.get_peft_model_state_dict(wrapped)]
    taken = {_base_name(name) for name in names}
    unread = sorted({_base_name(name) for name in stored_shapes([_file(directory)])} - taken)
    if unread:
        raise CheckpointError(
            f"{len(unread)} tensors of the adapter {directory} fit no module of its base, "
            f"{unread[0]} first. Its base has other layers than the one it was trained on: check "
            "base_model_name_or_path in adapter_config.json."
        )


def _check_complete(peft: ModuleType, wrapped: PeftModel, directory: Path) -> None:
    """Refuse an adapter whose file lacks tensors: peft would leave them at their random start."""
    stored = stored_shapes([_file(directory)])
    wanted = {_base_name(name) for name in peft.get_peft_model_state_dict(wrapped)}
    missing = sorted(wanted - {_base_name(name) for name in stored})
    if missing:
        raise CheckpointError(
            f"The adapter {directory} lacks {len(missing)} of its {len(wanted)} tensors, "
            f"{missing[0]} first. Save it again with `model.save_pretrained(...)`, or correct "
            "target_modules and modules_to_save in adapter_config.json."
        )


def _base_name(name: str) -> str:
    """The parameter's name in the base, whatever PEFT writes into it.

    >>> _base_name("base_model.model.classifier.modules_to_save.default.weight")
    'classifier.weight'
    >>> _base_name("base_model.model.bert.pooler.dense.lora_A.default.weight")
    'bert.pooler.dense.lora_A.weight'
    """
    parts = name.removeprefix(_PREFIX).split(".")
    return ".".join(part for part in parts if part not in _PARTS)
