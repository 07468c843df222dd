"""Merge a PEFT adapter into its base, in FP32 whatever the adapter was saved in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qdeploy.errors import CheckpointError

_PREFIX = "base_model.model."  # what PEFT writes before every name


def stored_parameters(file: Path | None) -> dict[str, tuple[int, ...]]:
    """Whole parameters that an adapter file carries (`modules_to_save`): name in the base → shape.

    Args:
        file: `adapter_model.safetensors` or `.bin`, or None for none.
    """
    if file is None:
        return {}
    shapes = {_base_name(name): shape for name, shape in _stored(file).items()}
    return {name: shape for name, shape in shapes.items() if ".lora_" not in name}


def merge_adapter(model: Any, directory: Path) -> Any:
    """Merge an adapter directory into a base model.

    Args:
        model: the base, FP32.
        directory: with `adapter_config.json` and weights of FP32, FP16 or BF16.

    Returns:
        A model of the base's class. A LoRA weight is W + s·B·A, computed in FP32 from the stored
        values (Hu et al. 2021, arXiv 2106.09685, eq. 3, s = alpha / rank).

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
            "Upgrade with `pip install -U peft`."
        ) from error
    if config.is_prompt_learning:
        raise CheckpointError(
            f"{directory} is a {config.peft_type.value} adapter: it adds virtual tokens and cannot "
            "be merged into weights. Train a LoRA adapter instead."
        )
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
    return wrapped.float().merge_and_unload()


def _peft(directory: Path) -> Any:
    try:
        import peft
    except ImportError:
        raise CheckpointError(
            f"{directory} is a PEFT adapter, and the package peft is not installed. Run "
            "`pip install 'qdeploy[peft]'`."
        ) from None
    return peft


def _check_complete(peft: Any, wrapped: Any, directory: Path) -> None:
    """Refuse an adapter whose file lacks tensors: peft would leave them at their random start."""
    files = [directory / "adapter_model.safetensors", directory / "adapter_model.bin"]
    stored = _stored(next(path for path in files if path.is_file()))
    wanted = {_base_name(name) for name in peft.get_peft_model_state_dict(wrapped)}
    missing = sorted(wanted - {_base_name(name) for name in stored})
    if missing:
        raise CheckpointError(
            f"The adapter {directory} lacks {len(missing)} of its {len(wanted)} tensors, "
            f"{missing[0]} first. Save it again with `model.save_pretrained(...)`, or correct "
            "target_modules and modules_to_save in adapter_config.json."
        )


def _stored(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapter file."""
    if file.suffix != ".safetensors":
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    from safetensors import safe_open

    with safe_open(file, framework="pt") as reader:
        return {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}  # noqa: SIM118


def _base_name(name: str) -> str:
    """The parameter's name in the base; older PEFT wrote `modules_to_save` into it.

    >>> _base_name("base_model.model.classifier.modules_to_save.default.weight")
    'classifier.weight'
    """
    name = name.removeprefix(_PREFIX)
    return name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")
