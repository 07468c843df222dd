"""An ONNX file of anybody as TensorRT-RTX compiles it, on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from qdeploy.calibrate.plan import FLOAT, FP8, INT8
from qdeploy.deploy.by_layer import causes_of_float
from qdeploy.deploy.certify_file import why_unplanned
from qdeploy.deploy.compilation import certify_compiled
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.product_flops import estimate, prepare
from qdeploy.deploy.stored_weights import weight_of
from qdeploy.deploy.targets.tensorrt import proof
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.builder import Refused, Settings, Shape, build_plan
from qdeploy.deploy.targets.tensorrt.directory import ONNX
from qdeploy.deploy.targets.tensorrt.dump import layers_json
from qdeploy.deploy.targets.tensorrt.rules import broken_rules
from qdeploy.errors import ModelError, TargetError
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.graph.products import Product, find_products
from qdeploy.onnx_file.check import load_graph
from qdeploy.schemas.certificate import Compiled, PlannedGemm
from qdeploy.schemas.inspection import CompiledFile

# Least, usual and largest of a free axis: of the first, and of all others.
ROWS, TOKENS = (1, 8, 32), (2, 128, 512)
_E4M3 = "float8_e4m3fn"
_NOISE = "cuda"  # of lines that a machine without a driver adds to each error


def compile_file(path: Path) -> CompiledFile:
    """Compile a file for one kind of device, and say which products became INT8 or FP8.

    Args:
        path: of a file that `onnx_file.check.check_file` found good.

    Returns:
        Where it does not compile, every reason.

    Raises:
        ModelError: not readable as ONNX.
    """
    model = load_graph(path, "Take it anew from where it was made.")
    compiler = f"{RTX.title} {RTX.package().__version__}"
    shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
    with scratch("compile") as folder:
        if prepare(model):  # layers are found by the names of nodes
            path = folder / ONNX
            save_graph(model, path, f"{ONNX}.data")
        try:
            shapes = _shapes(model)
            products, refused = _compiled(path, model, shapes), []
        except Refused as error:
            products, refused = None, [_line(reason) for reason in error.reasons]
        except (ModelError, TargetError) as error:
            products, refused = None, [_line(str(error))]
    return {
        "summary": _summary(products, refused, compiler),
        "compiler": compiler,
        "shapes": {name: [list(shape) for shape in three] for name, three in shapes.items()},
        "refused": refused,
        "products": products,
        "in_float": [] if products is None else causes_of_float(products["gemms"]),
    }


def _compiled(
    path: Path, model: ir.Model, shapes: Mapping[str, tuple[Shape, Shape, Shape]]
) -> Compiled:
    """What became of each product.

    Raises:
        Refused, TargetError: of `build_plan`.
    """
    found = find_products(model)
    planned = {product.name: _planned(product) for product in found}
    kinds = {gemm["precision"] for gemm in planned.values()}
    aimed = proof.first_of_kind(fp8=FP8 in kinds)
    built = build_plan(path, Settings(shapes=shapes, capabilities=aimed), RTX)
    layers = layers_json(built.dump, RTX.title)
    names = {product.name: [TraceName("", product.name)] for product in found}
    compilation = proof.compilation_of(layers, aimed, names)
    told = certify_compiled(
        compilation, {"planned_gemms": planned, "other_products": {}, "flops_measured": False}
    )
    _explain(told, model)
    return told


def _planned(product: Product) -> PlannedGemm:
    """A product as the file writes it; its FLOPs are those of one token."""
    weight = weight_of(product)
    fp8 = weight is not None and weight.codes.dtype.name == _E4M3
    reason = "" if fp8 else why_unplanned(product, weight)
    return {
        "precision": FP8 if fp8 else FLOAT if reason else INT8,
        "reason": reason,
        "flops": estimate(product, 1).flops,
        "float_flops": 0,
        "marks": [],
    }


def _explain(told: Compiled, model: ir.Model) -> None:
    """Add the rule that a product breaks to the reason for its fall."""
    texts = {one.node: f"{one.text} ({one.rule})" for one in broken_rules(model)}
    for fall in told["fallbacks"]:
        if text := texts.get(fall["site"]):
            fall["reason"] = told["gemms"][fall["site"]]["reason"] = text


def _shapes(model: ir.Model) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Least, usual and largest shape of each input that has a free axis.

    Axes of one name are equal, and the first input that has it decides.

    Raises:
        ModelError: the file does not say how many axes an input has.
    """
    free: dict[str, tuple[int, int, int]] = {}
    found: dict[str, tuple[Shape, Shape, Shape]] = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if value.shape is None:
            raise ModelError(f"the file does not say how many axes the input {value.name} has")
        axes: list[tuple[int, ...]] = []
        for at, dim in enumerate(value.shape):
            sizes = TOKENS if at else ROWS
            if isinstance(dim, int):
                axes.append((dim,) * len(ROWS))
            else:
                axes.append(free.setdefault(dim.value, sizes) if dim.value else sizes)
        least, usual, most = (tuple(axis[which] for axis in axes) for which in range(len(ROWS)))
        if least != most:
            found[str(value.name)] = (least, usual, most)
    return found


def _line(text: str) -> str:
    """What a compiler says over several lines, in one."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not _is_noise(line)]
    return " ".join(kept)


def _is_noise(line: str) -> bool:
    return line.startswith("[") and _NOISE in line.lower()


def _summary(products: Compiled | None, refused: list[str], compiler: str) -> str:
    if products is None:
        more = f" (and {len(refused) - 1} more reasons)" if len(refused) > 1 else ""
        return f"not compiled by {compiler}: {refused[0]}{more}"
    if products["planned"]:
        return products["summary"]
    devices = ", ".join(products["compute_capabilities"])
    return (
        f"{compiler} compiles it for compute capability {devices}, with no product in 8 bits; "
        "nothing ran"
    )
