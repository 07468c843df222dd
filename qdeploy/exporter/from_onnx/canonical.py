"""A file's graph in canonical form, step by step; each step is one file of this room.

Order matters. Functions are inlined first, so that every step sees all nodes. Shapes are seen
before anything is decided by them (`observe`), and again after sizes were simplified. Gelus,
normalizations and masks are recognised once constants are folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    InlinePass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

from qdeploy.errors import CheckpointError
from qdeploy.exporter.canonical import name_nodes, strip
from qdeploy.exporter.fold import fold_constants
from qdeploy.exporter.from_onnx.edit import hushed
from qdeploy.exporter.from_onnx.gelu import fuse_gelus
from qdeploy.exporter.from_onnx.guards import drop_guards
from qdeploy.exporter.from_onnx.inputs import prepare_inputs
from qdeploy.exporter.from_onnx.layer_norm import fuse_layer_norms
from qdeploy.exporter.from_onnx.masks import choose_masks
from qdeploy.exporter.from_onnx.names import name_parameters, scope_nodes
from qdeploy.exporter.from_onnx.observe import Observed, observe, set_shapes
from qdeploy.exporter.from_onnx.opset import check_opset, lower_opset, to_opset
from qdeploy.exporter.from_onnx.refuse import check_encoder, check_float, table_rows
from qdeploy.exporter.from_onnx.shapes import simplify_shapes
from qdeploy.exporter.from_onnx.single import to_single
from qdeploy.exporter.from_onnx.unfreeze import Traced, traced_size, unfreeze
from qdeploy.exporter.from_onnx.unfuse import unfuse

_MOST_ROUNDS = 5  # each round may open the branch of an If, whose sizes the next one sees


@dataclass(frozen=True)
class Prepared:
    """A graph before its outputs are chosen.

    Attributes:
        model: the graph.
        inputs: canonical name → name in the file.
        vocabulary: rows of the table of tokens.
        halved: the file was in FP16 or BF16.
        fused: operators of ONNX Runtime's optimizer that were written out.
        observed: shapes of its tensors.
        traced: the one size that the file takes, from which the graph was freed; None of others.
    """

    model: ir.Model
    inputs: Mapping[str, str]
    vocabulary: int
    halved: bool
    fused: tuple[str, ...]
    observed: Observed
    traced: Traced | None = None


def prepare(model: ir.Model, origin: str, config: Mapping[str, object]) -> Prepared:
    """Bring a file's graph into FP32, opset 20 and operators of ONNX, with known shapes, in place.

    Raises:
        CheckpointError: see the steps.
    """
    InlinePass()(model)
    check_float(model, origin)
    check_opset(model, origin)
    size = traced_size(model)
    inputs = prepare_inputs(model, origin, config)
    check_encoder(model, origin)
    vocabulary = table_rows(model, origin)
    halved = to_single(model)
    scope_nodes(model.graph)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    traced = size if size is not None and not _is_free(model, vocabulary, origin) else None
    if traced is not None:
        unfreeze(model, vocabulary, traced, origin)
    set_shapes(model, observe(model, vocabulary, origin))
    to_opset(model, origin)
    fused = unfuse(model, origin)
    lower_opset(model)
    observed = observe(model, vocabulary, origin)
    return Prepared(model, inputs, vocabulary, halved, tuple(fused), observed, traced)


def _is_free(model: ir.Model, vocabulary: int, origin: str) -> bool:
    """Whether the nodes take other sizes, whatever the file says of its inputs."""
    free = model.clone()
    for value in (v for node in free.graph for v in node.outputs):
        value.shape = None
    try:
        observe(free, vocabulary, origin)
    except CheckpointError:
        return False
    return True


def is_fixed(model: ir.Model) -> bool:
    """Whether a file says one size of its inputs, whatever its nodes take."""
    stored = set(model.graph.initializers.values())
    return any(
        isinstance(size, int)
        for value in model.graph.inputs
        if value not in stored
        for size in value.shape or ()
    )


def plain(model: ir.Model) -> ir.Model:
    """A file's graph in FP32 and of any size, in place, to compare with; its nodes stay."""
    InlinePass()(model)
    for value in [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]:
        if not value.is_initializer():  # what a file says of sizes binds ONNX Runtime
            value.shape = ir.Shape([None, None]) if value.is_graph_input() else None
    for value in [v for v in model.graph.inputs if v.is_initializer()]:
        model.graph.inputs.remove(value)
    to_single(model)
    return model


def finish(prepared: Prepared, origin: str) -> None:
    """Bring a prepared graph with its canonical outputs into canonical form, in place."""
    model = prepared.model
    before = -1
    for _ in range(_MOST_ROUNDS):
        if len(model.graph) == before:
            break
        before = len(model.graph)
        observed = observe(model, prepared.vocabulary, origin)
        set_shapes(model, observed)
        simplify_shapes(model, observed)
        _fold(model)
    set_shapes(model, observe(model, prepared.vocabulary, origin))
    fuse_layer_norms(model)
    fuse_gelus(model, halved=prepared.halved)
    drop_guards(model)
    choose_masks(model)
    fold_constants(model.graph)
    CommonSubexpressionEliminationPass()(model)
    name_parameters(model)
    set_shapes(model, observe(model, prepared.vocabulary, origin))
    name_nodes(model.graph)
    strip(model)


def _folds(node: ir.Node) -> bool | None:
    """True of what the library leaves to keep files small, and files of ours may not have."""
    return True if node.op_type == "ConstantOfShape" else None


def _fold(model: ir.Model) -> None:
    from onnxscript import optimizer

    # not `optimizer.optimize`: its rules take an addition of 1e-12 for one of nothing
    # a branch that a Where does not take may divide by zero
    with hushed(), np.errstate(all="ignore"):
        optimizer.fold_constants(model, should_fold=_folds)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if len(list(model.graphs())) == 1:  # it cannot move values out of the body of an If
        IdentityEliminationPass()(model)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedNodesPass()(model)
