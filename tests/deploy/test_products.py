"""Every product is counted: against a brute force of another kind, at sizes where forms differ."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import PerTensor
from qdeploy.deploy.certificate import expected, unplanned
from qdeploy.deploy.certify_file import certify_file
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.ort.kernels import INT8_KERNELS
from qdeploy.deploy.ort.profile import find_kernels, optimized_graph
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.deploy.product_flops import any_feeds, count_products
from qdeploy.deploy.tally import tally
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.products import find_products
from qdeploy.graph.sites import find_structure
from tests.deploy.product_graphs import (
    BATCH,
    FORMS,
    OPERATORS,
    PLACES,
    TOKENS,
    Layer,
    brute_force,
    model_of,
)
from tests.deploy.toys import plan_of, saved
from tests.onnx_text import read_model

HIDDEN = (32, 64, 256)
LAYERS = st.lists(
    st.builds(
        Layer,
        st.sampled_from(OPERATORS),
        st.sampled_from(FORMS),
        st.sampled_from(PLACES),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)


def feeds(hidden: int) -> dict[str, Any]:
    x = np.random.default_rng(3).normal(size=(BATCH, TOKENS, hidden))
    return {"x": x.astype(np.float32)}


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=LAYERS, hidden=st.sampled_from(HIDDEN))
def test_the_count_is_that_of_a_brute_force(
    tmp_path: Path, layers: list[Layer], hidden: int
) -> None:
    model = model_of(layers, hidden)
    count = count_products(written(model, tmp_path), feeds(hidden))
    assert count.measured
    assert count.flops == brute_force(model, hidden) > 0
    assert all(counted.ran for counted in count.products)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_each_operator_in_each_place(
    operator: str, place: str, hidden: int, tmp_path: Path
) -> None:
    """Each form of a weight once: none is lost, whatever the sizes."""
    layers = [Layer(operator, form, place, index) for index, form in enumerate(FORMS)]
    model = model_of(layers, hidden)
    count = count_products(written(model, tmp_path), feeds(hidden))
    assert count.flops == brute_force(model, hidden)
    times = 3 if place == "loop" else 1
    assert count.flops == len(FORMS) * times * 2 * BATCH * TOKENS * hidden**2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=LAYERS, hidden=st.sampled_from(HIDDEN))
def test_a_foreign_files_share_is_what_int8_kernels_did(
    tmp_path: Path, layers: list[Layer], hidden: int
) -> None:
    """Beside it, the events of a profile: calls of INT8 kernels, with the shapes that they had."""
    path = written(model_of(layers, hidden), tmp_path)
    report = certify_file(path)
    inputs = any_feeds(path)
    rows = math.prod(inputs["x"].shape[:2])
    total = brute_force(model_of(layers, hidden), hidden) // (BATCH * TOKENS) * rows
    done = int8_work(path, inputs, hidden)
    assert report["flops_share"] == pytest.approx(done / total, abs=2e-6)
    integers = sum(layer.operator == "MatMulInteger" for layer in layers)
    assert report["executed"] == integers
    assert report["planned"] == len([*filter(planned, layers)])


def planned(layer: Layer) -> bool:
    return layer.operator == "MatMulInteger" or layer.form == "int8"


def int8_work(path: Path, inputs: dict[str, Any], hidden: int) -> int:
    options = session_options(1)
    options.enable_profiling = True
    options.profile_file_prefix = str(path.parent / "profile")
    session = open_session(path, options)
    session.run(None, inputs)
    log = Path(session.end_profiling())
    events = [e for e in json.loads(log.read_text("utf-8")) if e["cat"] == "Node"]
    log.unlink()
    return sum(
        2 * math.prod(*event["args"]["output_type_shape"][0].values()) * hidden
        for event in events
        if event["name"].endswith("_kernel_time") and event["args"]["op_name"] in INT8_KERNELS
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operators=st.lists(st.sampled_from(OPERATORS[:5]), min_size=1, max_size=5),
    weights=st.lists(st.integers(0, 1), min_size=5, max_size=5),
    hidden=st.sampled_from(HIDDEN),
)
def test_planned_and_executed_are_shares_of_all_work(
    tmp_path: Path, operators: list[str], weights: list[int], hidden: int
) -> None:
    """Products that no plan knows are work all the same; layers may share their weights."""
    layers = [
        Layer(operator, "plain", "graph", weight)
        for operator, weight in zip(operators, weights, strict=False)
    ]
    layers.append(Layer("MatMul", "plain", "graph", 2))
    model = model_of(layers, hidden)
    graph = ir.serde.deserialize_model(model)
    structure = find_structure(graph)
    known = [layer for layer in layers if layer.operator in ("MatMul", "Gemm")]
    assert len(structure.gemms) == len(known)
    sites = {site.tensor for site in structure.sites}
    plan = plan_of(structure, {tensor: PerTensor(Affine(0.05, 128)) for tensor in sites})
    lowered = lower_ort_cpu(graph, plan, structure)
    path = saved(lowered.model, tmp_path / "model.onnx")
    certificate = expected(plan, structure, lowered, count_products(path, feeds(hidden)))
    gemms, others = certificate["planned_gemms"], certificate["other_products"]
    total = sum(gemm["flops"] for gemm in (*gemms.values(), *others.values()))
    assert total == brute_force(model, hidden)
    assert len(others) == len(layers) - len(known)

    wanted = sum(gemm["precision"] == "int8" for gemm in gemms.values())
    trace_names = {name: [TraceName(*m) for m in gemm["marks"]] for name, gemm in gemms.items()}
    report = tally(gemms, find_kernels(optimized_graph(path), trace_names), 0.0, others)
    assert report["planned"] == report["executed"] == wanted
    assert report["planned_share"] == report["flops_share"]
    assert report["flops_share"] == pytest.approx(wanted / len(layers), abs=2e-6)
    stored = [value for value in lowered.model.graph.initializers if "weight_int8" in value]
    int8 = [gemm for gemm in structure.gemms if plan.gemms[gemm.name].precision == "int8"]
    forms = {(gemm.weight, gemm.transposed) for gemm in int8}
    assert len(stored) == len(forms), "one int8 copy of a weight serves all its GEMMs"


@pytest.mark.parametrize("varying", [True, False])
def test_a_branch_that_this_run_left_out_counts(varying: bool, tmp_path: Path) -> None:
    """What another input may run is estimated from its weight; what nothing can run is none."""
    hidden = 64
    constants: dict[str, Any] = {"wide": np.ones((hidden, hidden), np.float32)}
    inputs = f"float[b, s, {hidden}] x"
    if varying:
        inputs += ", bool go"
    else:
        constants["go"] = np.array(False)
    nodes = """
        [if] y = If<
            then_branch = then () => (float[] a) { [then] a = MatMul(x, wide) },
            else_branch = other () => (float[] b) { [other] b = Identity(x) }
        >(go)
    """
    model = read_model(f"({inputs}) => (float[] y) {{ {nodes} }}", constants)
    path = written(model, tmp_path)
    count = count_products(path, feeds(hidden) | {"go": np.array(False)})
    assert count.flops == (2 * BATCH * TOKENS * hidden**2 if varying else 0)
    assert not any(product.ran for product in count.products)
    assert certify_file(path)["flops_share"] == 0.0


def test_recurrent_and_unknown_operators_are_counted_or_named(tmp_path: Path) -> None:
    hidden = 32
    rng = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    x = f"float[{TOKENS}, {BATCH}, {hidden}] x"
    lstm = f"[lstm] y = LSTM<hidden_size = {hidden}>(x, w, r)"
    constants = {"w": random(1, 4 * hidden, hidden), "r": random(1, 4 * hidden, hidden)}
    model = read_model(f"({x}) => (float[] y) {{ {lstm} }}", constants)
    values = {"x": np.ones((TOKENS, BATCH, hidden), np.float32)}
    work = 2 * TOKENS * BATCH * 2 * 4 * hidden**2
    assert count_products(written(model, tmp_path), values).flops == work

    quiver = "[quiver] z = com.acme.Quiver(y, q)"
    constants["q"] = random(hidden, hidden)
    opsets = {"": 20, "com.acme": 1}
    model = read_model(f"({x}) => (float[] z) {{ {lstm} {quiver} }}", constants, opsets)
    count = count_products(written(model, tmp_path), values)
    assert not count.measured and "com.acme" in count.reason
    unknown = count.products[-1].product
    assert not unknown.judged
    assert unplanned(unknown) == (
        "com.acme.Quiver is not known here, and is not judged: it counts as float"
    )
    assert count.products[-1].flops == 2 * TOKENS * BATCH * hidden**2


def test_a_constant_that_is_also_an_input_is_a_weight() -> None:
    """Files of before IR version 4 list every initializer among the inputs."""
    model = model_of([Layer("MatMul", "plain", "graph", 0)], 32)
    value = helper.make_tensor_value_info("weight0.plain", TensorProto.FLOAT, [32, 32])
    model.graph.input.append(value)
    (product,) = find_products(ir.serde.deserialize_model(model))
    assert product.weights == ("weight0.plain",)
