"""Run the canonical model over calibration batches and observe every site in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.tokens import class_names, classify
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import ModelError, StatisticsError
from qdeploy.graph.session import blaming, run_session, session_of
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import GEMM_INPUT, Site, Structure
from qdeploy.onnx_file.check import GRAPH
from qdeploy.types import Array

Feeds = Mapping[str, Array]
# Observes the model of a directory on batches, with second moments or without: statistics by tensor
# name.
Observer = Callable[[Path, Iterable[Feeds], bool], dict[str, SiteStatistics]]


def open_observed(model: ir.Model, sites: Iterable[Site], threads: int) -> ort.InferenceSession:
    """A session of the model whose outputs are the site tensors.

    Graph optimization is off, since a fused node would take the tensors away. The arena is off
    too: batches differ in shape, and an arena would keep the largest of each tensor.
    """
    observed = model.clone()
    values = {v.name: v for node in observed.graph for v in node.outputs}
    observed.graph.outputs.clear()
    for site in sites:
        value = values[site.tensor]
        if value.type is None:
            value.type = ir.TensorType(ir.DataType.FLOAT)
        observed.graph.outputs.append(value)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session: ort.InferenceSession = session_of(observed, options)
    return session


def observe_directory(
    model_dir: Path, batches: Iterable[Feeds], products: bool = False
) -> dict[str, SiteStatistics]:
    """Statistics of a model directory's model on some batches, in one pass on this machine.

    Args:
        model_dir: model directory.
        batches: see `observe`.
        products: see `observe`.

    Raises:
        ModelError, StatisticsError: see `load_model` and `observe`.
    """
    model, _ = load_model(model_dir)
    specials = TextEncoder.from_directory(model_dir).special_tokens
    structure = find_structure(model, model_dir / GRAPH)
    with blaming(model_dir / GRAPH):
        return observe(model, structure, batches, specials=specials, products=products)


def observe(
    model: ir.Model,
    structure: Structure,
    batches: Iterable[Feeds],
    *,
    specials: Mapping[str, int] | None = None,
    products: bool = False,
    threads: int = 2,
) -> dict[str, SiteStatistics]:
    """Statistics of every site, by tensor name; memory does not grow with the number of batches.

    Args:
        model: canonical model, FP32.
        structure: its sites.
        batches: int64 [B, S] feeds with an `attention_mask`; masked tokens are left out.
        specials: ids of the special tokens by name; their values are told apart (`tokens`).
        products: gather second moments of the inputs of GEMMs, FP32 [C, C] each, too.
        threads: of the run.

    Raises:
        StatisticsError: no batch, or NaN or infinity in a tensor (named).
    """
    names = specials or {}
    collected: dict[str, SiteStatistics] = {}
    for site, rows, classes in observed_rows(
        model, structure.sites, batches, specials=names, threads=threads
    ):
        known = 0 if classes is None else len(class_names(names))
        if site.tensor not in collected:
            wanted = products and GEMM_INPUT in site.roles and site.channels > 1
            collected[site.tensor] = SiteStatistics.empty(rows.shape[1], known, products=wanted)
        target = collected[site.tensor]
        try:
            target.update(rows, classes)
        except StatisticsError as error:
            raise StatisticsError(
                f"{site.name}: {error} on a calibration batch. Check the checkpoint's weights "
                "(`qdeploy export` verifies them) and the data."
            ) from None
    if not collected:
        raise StatisticsError("There is no calibration row. Name data with --data.")
    return collected


def observed_rows(
    model: ir.Model,
    sites: Sequence[Site],
    batches: Iterable[Feeds],
    *,
    specials: Mapping[str, int] | None = None,
    threads: int = 2,
) -> Iterator[tuple[Site, Array, Array | None]]:
    """Every site of every batch: its `real_rows`, and the class of each row (`classify`).

    The classes are None where rows of the tensor are no tokens.
    """
    session = open_observed(model, sites, threads)
    wanted = [value.name for value in session.get_inputs()]
    for feeds in batches:
        _require_inputs(wanted, feeds)
        outputs = run_session(session, {name: feeds[name] for name in wanted}, Path(GRAPH))
        mask = feeds["attention_mask"].astype(bool)
        classes = classify(feeds["input_ids"], mask, specials or {})
        for site, value in zip(sites, outputs, strict=True):
            by_token = site.channels > 1 and value.shape[:-1] == mask.shape
            yield site, real_rows(value, mask, site), classes if by_token else None


def _require_inputs(wanted: list[str], feeds: Feeds) -> None:
    needed = dict.fromkeys((*wanted, "input_ids", "attention_mask"))
    missing = [name for name in needed if name not in feeds]
    if missing:
        raise ModelError(
            f"The model needs the inputs {missing}, which the tokenizer does not give."
        )


def real_rows(value: Array, mask: Array, site: Site) -> Array:
    """The values of a site without padding, FP32 [rows, C] (C = 1 where channels mean nothing).

    Args:
        value: FP32 [B, …]; or [B·heads, …], as some encoders fold heads into the batch.
        mask: bool [B, S], True for real tokens.
        site: says which axes run over tokens.
    """
    batch, sequence = mask.shape
    keep = np.ones((1,) * value.ndim, bool)
    if value.ndim and value.shape[0] % batch == 0:
        folded = np.repeat(mask, value.shape[0] // batch, axis=0)
        for axis in site.sequence_axes:
            if value.shape[axis] == sequence:
                shape = [len(folded)] + [1] * (value.ndim - 1)
                shape[axis] = sequence
                keep = keep & folded.reshape(shape)
    if site.channels > 1:
        rows = np.broadcast_to(keep[..., 0], value.shape[:-1]).ravel()
        flat: Array = value.reshape(-1, site.channels)
        return flat if rows.all() else flat[rows]
    everything = value.reshape(-1, 1)
    flags = np.broadcast_to(keep, value.shape).ravel()
    return everything if flags.all() else everything[flags]
