"""The forms of a treatment are weighed by what they cost, and the noise target decides first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import GemmPlan, Grouped, PerTensor, Plan, SitePlan, Treatment
from qdeploy.deploy.lowering.cost_model import L4, Costs, Gpu, cheapest, extra_us
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.deploy.targets.ort_cuda import lower as lower_ort_cuda
from qdeploy.deploy.targets.tensorrt import lower as lower_tensorrt
from qdeploy.graph.structure import Gemm
from tests.deploy.conftest import Source

C, N = 128, 64
AFFINE = Affine(0.1, 128)
WIDE = tuple(range(32, C))
GPU = Gpu("round figures", launch_us=2.0, bytes_us=1000.0, int8_us=10_000.0, half_us=5_000.0)
COSTS = Costs(GemmConstraints(repeats=False, multiple=32, float_multiple=8), 1, 4, 3, 8)
FACTORS = PerTensor(AFFINE, (1.0,) * C)
TWO = Grouped((WIDE, tuple(range(32))), (AFFINE, Affine(0.2, 128)))
OUTLIER = Grouped((tuple(range(1, C)),), (AFFINE,), outlier_channels=(0,))


def gemm(rows: int = 128, n: int = N) -> Gemm:
    return Gemm("gemm", "node", "weight", False, None, "x", "y", C, n, rows)


def test_a_plain_product_costs_nothing_more() -> None:
    assert extra_us(PerTensor(AFFINE), [gemm()], (8, 128), COSTS, GPU) == 0


def test_factors_cost_their_kernel_once_for_all_readers() -> None:
    one = extra_us(FACTORS, [gemm()], (8, 128), COSTS, GPU)
    assert one == 2.0 + 8 * 128 * C * 4 / 1000
    assert extra_us(FACTORS, [gemm()] * 3, (8, 128), COSTS, GPU) == one
    assert extra_us(FACTORS, [gemm()], (8, 128), lower_tensorrt.COSTS, GPU) == 0


def test_a_group_costs_a_product_its_sum_and_its_rows() -> None:
    outputs = 8 * 128 * N
    # the wide group keeps its 128 rows, and the other has 32 of its own
    expected = 3 * 2.0 + outputs * 8 / 1000 + 2 * outputs * 32 / 10_000
    assert extra_us(TWO, [gemm()], (8, 128), COSTS, GPU) == pytest.approx(expected)
    assert extra_us(TWO, [gemm()] * 3, (8, 128), COSTS, GPU) == pytest.approx(3 * expected)


def test_outlier_channels_cost_a_float_product_of_eight_rows() -> None:
    outputs = 8 * 128 * N
    expected = 3 * 2.0 + outputs * 8 / 1000 + 2 * outputs * 8 / 5_000
    assert extra_us(OUTLIER, [gemm()], (8, 128), COSTS, GPU) == pytest.approx(expected)


def test_repeated_rows_cost_their_joining_and_no_product() -> None:
    near = Grouped((WIDE, tuple(range(32))), (Affine(0.1, 128), Affine(0.1, 128)))
    repeating = replace(COSTS, cuts=GemmConstraints(repeats=True))
    outputs = 8 * 128 * N
    joined = 3 * 2.0 + 2 * 8 * 128 * (C + 32) / 1000
    expected = joined + 2 * outputs * 32 / 10_000
    assert extra_us(near, [gemm()], (8, 128), repeating, GPU) == pytest.approx(expected)


def test_a_product_of_one_row_per_text_counts_texts() -> None:
    long, short = (extra_us(TWO, [gemm(rows=1)], (8, s), COSTS, GPU) for s in (128, 8))
    assert long == short < extra_us(TWO, [gemm()], (8, 8), COSTS, GPU)


def test_channels_that_are_split_cost_a_kernel_and_their_rows() -> None:
    costs = replace(lower_tensorrt.COSTS)
    outputs = 8 * 128 * N
    # 32 channels stand twice: 160 rows
    expected = 2.0 + 2 * 8 * 128 * 32 / 1000 + 2 * outputs * 32 / 10_000
    assert extra_us(TWO, [gemm()], (8, 128), costs, GPU) == pytest.approx(expected)
    far = Grouped(TWO.groups, (AFFINE, Affine(2.0, 128)))  # 20 times: a product of its own
    assert extra_us(far, [gemm()], (8, 128), costs, GPU) > 3 * 2.0


def plan_with(treatment: Treatment, sqnr_db: float) -> Plan:
    site = SitePlan("site", "x", treatment, "because", sqnr_db)
    return Plan(
        strategy="peg",
        scope="gemm",
        activations="symmetric",
        per_channel_weights=True,
        sites={"x": site},
        gemms={"gemm": GemmPlan("gemm", "weight", "int8", "")},
        tables=(),
        options={"noise_target": 30.0},
    )


@pytest.mark.parametrize(
    ("factors_db", "groups_db", "costs", "kept"),
    [
        (31, 40, lower_tensorrt.COSTS, FACTORS),  # both suffice: factors are free there
        (29, 31, lower_tensorrt.COSTS, TWO),  # only groups suffice
        (28, 29, lower_tensorrt.COSTS, TWO),  # none does: the one with less noise
        (29, 28, lower_tensorrt.COSTS, FACTORS),
        (31, 31, replace(COSTS, factor_kernels=10_000), TWO),  # both suffice: groups are cheaper
        (31, 31, lower_ort_cuda.COSTS, FACTORS),
    ],
)
def test_the_cheaper_of_the_quiet_enough(
    factors_db: float, groups_db: float, costs: Costs, kept: Treatment, bert: Source
) -> None:
    structure = replace(bert.graph()[1], gemms=(gemm(),))
    plans = plan_with(FACTORS, factors_db), plan_with(TWO, groups_db)
    found, report = cheapest(*plans, structure, (8, 128), costs)
    assert found.sites["x"].treatment == kept
    name, other = ("factors", "groups") if kept == FACTORS else ("groups", "factors")
    times = report["estimated_us"]
    assert times["kept"] == times[name] != times[other]
    assert f"{other} {times[other]:.1f} µs" in found.sites["x"].reason
    assert report["gpu"] == L4.name


def test_plans_that_agree_are_left_as_they_are(bert: Source) -> None:
    structure = replace(bert.graph()[1], gemms=(gemm(),))
    plan = plan_with(TWO, 31)
    found, report = cheapest(plan, plan, structure, (8, 128), lower_tensorrt.COSTS)
    assert found == plan
    assert len(set(report["estimated_us"].values())) == 1
