"""Each strategy on the small encoder, whose LayerNorms have one channel far from the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.checks import affine_range
from qdeploy.calibrate.options import PRE_QUANT_SCALES, PlanOptions
from qdeploy.calibrate.plan import Dynamic, Float, Grouped, PerTensor, Plan
from qdeploy.calibrate.schemes import SYMMETRIC
from qdeploy.calibrate.strategies import STRATEGIES, make_plan, needs_statistics
from qdeploy.errors import PlanError, QDeployWarning
from qdeploy.graph.structure import GEMM_INPUT, LAYER_NORM
from tests.calibrate.conftest import Synthetic
from tests.calibrate.encoder import HIDDEN, OUTLIER
from tests.tolerances import FP32_ROUNDING

STATIC = ("w8a8", "percentile", "mse", "entropy", "mixed", "smoothquant", "peg")
LAYER_GEMMS = 12


def sites_above_the_target(synthetic: Synthetic) -> set[str]:
    """GEMM inputs of the scope with the planted channel."""
    return {s.tensor for s in synthetic.structure.sites if {GEMM_INPUT, LAYER_NORM} <= s.roles}


def per_tensor(plan: Plan, tensor: str) -> PerTensor:
    treatment = plan.treatment(tensor)
    assert isinstance(treatment, PerTensor)
    return treatment


@pytest.mark.parametrize("strategy", STATIC)
@pytest.mark.parametrize("scope", ["gemm", "all"])
def test_every_static_strategy_plans_every_site(
    synthetic: Synthetic, strategy: str, scope: str
) -> None:
    context = synthetic.context(scope=scope)
    plan = make_plan(strategy, context)
    assert (plan.strategy, plan.scope, plan.activations) == (strategy, scope, "asymmetric")
    assert list(plan.sites) == [s.tensor for s in context.sites]
    assert set(plan.gemms) == {g.name for g in synthetic.structure.gemms}
    assert plan.tables == ("embeddings.words",)
    assert Plan.from_json(plan.to_json()) == plan
    assert needs_statistics(strategy)
    for site in plan.sites.values():
        assert (site.sqnr_db is None) == isinstance(site.treatment, Float)
    if strategy != "mixed":
        assert len(plan.int8_gemms) == LAYER_GEMMS + (scope == "all")
    if scope == "gemm":
        assert "nothing to gain" in plan.gemms["classifier"].reason


def test_fp32_has_no_int8(synthetic: Synthetic) -> None:
    plan = make_plan("fp32", synthetic.context())
    assert plan.int8_gemms == () and plan.tables == () and plan.sites == {}
    assert len(plan.gemms) == LAYER_GEMMS + 1 and not needs_statistics("fp32")


def test_dynamic(synthetic: Synthetic) -> None:
    plan = make_plan("dynamic", synthetic.context())
    assert {type(s.treatment) for s in plan.sites.values()} == {Dynamic}
    assert len(plan.int8_gemms) == LAYER_GEMMS and not needs_statistics("dynamic")
    with pytest.raises(
        PlanError, match=r"--scope all needs static ones. Use --scope gemm, or a sta"
    ):
        make_plan("dynamic", synthetic.context(scope="all"))


def test_w8a8_takes_the_whole_range(synthetic: Synthetic) -> None:
    plan = make_plan("w8a8", synthetic.context())
    for tensor, site in plan.sites.items():
        low, high = affine_range(per_tensor(plan, tensor).affine)
        seen, step = synthetic.statistics[tensor], per_tensor(plan, tensor).affine.scale
        assert low <= seen.minimum.min() + step / 2 and high >= seen.maximum.max() - step / 2
        assert site.reason == "w8a8"


def test_clipping_strategies_are_narrower(synthetic: Synthetic) -> None:
    below = "layer.0.joined"
    scale = {
        name: per_tensor(make_plan(name, context), below).affine.scale
        for name, context in {
            "w8a8": synthetic.context(),
            "percentile": synthetic.context(percentile=99.0),
            "mse": synthetic.context(),
        }.items()
    }
    assert scale["percentile"] < 0.75 * scale["w8a8"]
    assert scale["percentile"] < scale["mse"] < scale["w8a8"]
    wider = make_plan("percentile", synthetic.context(percentile=99.9))
    assert per_tensor(wider, below).affine.scale > scale["percentile"]


def test_mixed_leaves_the_papers_set_in_float(synthetic: Synthetic) -> None:
    blocks = synthetic.structure.feed_forwards
    expected = {t for b in blocks for t in (b.input, b.output, b.residual)}
    plan = make_plan("mixed", synthetic.context(scope="all"))
    assert {t for t, s in plan.sites.items() if isinstance(s.treatment, Float)} == expected
    assert plan.sites[blocks[0].input].reason == "FFN input, FFN output or residual sum"
    floats = {name for name, gemm in plan.gemms.items() if gemm.precision == "float"}
    assert floats == {"layer.0.up", "layer.1.up"}


def test_mixed_auto_goes_by_noise(synthetic: Synthetic) -> None:
    plan = make_plan("mixed", synthetic.context(mixed="auto"))
    floats = {t for t, s in plan.sites.items() if isinstance(s.treatment, Float)}
    assert floats == sites_above_the_target(synthetic) and len(floats) == 4
    assert "below 30 dB" in plan.sites["layer.0.norm1.out"].reason


def test_mixed_without_blocks_says_so(synthetic: Synthetic) -> None:
    context = synthetic.context()
    bare = replace(context, structure=replace(context.structure, feed_forwards=()))
    with pytest.raises(PlanError, match=r"No feed-forward block .*Use --mixed auto"):
        make_plan("mixed", bare)


# SmoothQuant


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_prescale_is_equation_4(synthetic: Synthetic, alpha: float) -> None:
    plan = make_plan("smoothquant", synthetic.context(alpha=alpha))
    tensor = "embeddings.norm.out"  # read by three GEMMs: the largest weight of all of them counts
    data = synthetic.data[tensor]
    weights = [synthetic.weights[g.weight] for g in synthetic.structure.consumers(tensor)]
    assert len(weights) == 3
    peak = np.abs(data).max(axis=0).astype(np.float64)
    heaviest = np.abs(np.concatenate(weights, axis=1)).max(axis=1).astype(np.float64)
    s = peak**alpha / heaviest ** (1 - alpha)
    treatment = per_tensor(plan, tensor)
    found = np.array(treatment.pre_quant_scale)
    np.testing.assert_allclose(found * s, np.full(HIDDEN, (found * s)[0]), rtol=FP32_ROUNDING)
    assert np.log(found).mean() == pytest.approx(0, abs=1e-6)
    smooth = data * found
    low, high = affine_range(treatment.affine)
    step = treatment.affine.scale
    assert low == pytest.approx(smooth.min(), abs=step) and high == pytest.approx(
        smooth.max(), abs=step
    )
    assert plan.sites[tensor].reason == f"α = {alpha}"


def test_smoothing_helps_where_a_channel_stands_out(synthetic: Synthetic) -> None:
    plain = make_plan("w8a8", synthetic.context()).sites
    auto = make_plan("smoothquant", synthetic.context()).sites
    for tensor in sites_above_the_target(synthetic):
        better, before = auto[tensor].sqnr_db, plain[tensor].sqnr_db
        assert better is not None and before is not None and better > before + 3
        treatment = auto[tensor].treatment
        assert isinstance(treatment, PerTensor)
        assert np.argmin(treatment.pre_quant_scale) == OUTLIER


# PEG


def check_partition(treatment: Grouped) -> None:
    channels = [c for group in treatment.groups for c in group] + list(treatment.outlier_channels)
    assert sorted(channels) == list(range(len(channels)))
    assert len(treatment.affines) == len(treatment.groups) and all(treatment.groups)


def test_peg_treats_the_outlier_and_nothing_else(synthetic: Synthetic) -> None:
    plan = make_plan("peg", synthetic.context())
    before = make_plan("w8a8", synthetic.context()).sites
    above = sites_above_the_target(synthetic)
    for tensor, site in plan.sites.items():
        if tensor not in above:
            assert isinstance(site.treatment, PerTensor) and site.reason == "one scale suffices"
            assert site.treatment == before[tensor].treatment
            continue
        assert isinstance(site.treatment, Grouped)
        check_partition(site.treatment)
        alone = (OUTLIER,) in site.treatment.groups or OUTLIER in site.treatment.outlier_channels
        assert alone
        old, new = before[tensor].sqnr_db, site.sqnr_db
        assert old is not None and new is not None and old < 30 <= 34 <= new
        assert "group" in site.reason


def test_peg_scales_by_channel_where_that_is_allowed(synthetic: Synthetic) -> None:
    """Everywhere: where it helps. Folded: at contexts, and at LayerNorms above the target."""
    contexts = set(synthetic.structure.linear_sources)
    plans = {p: make_plan("peg", synthetic.context(prescale=p)).sites for p in PRE_QUANT_SCALES}
    plain = make_plan("w8a8", synthetic.context()).sites
    scaled = {
        prescale: {t for t, s in sites.items() if getattr(s.treatment, "pre_quant_scale", ())}
        for prescale, sites in plans.items()
    }
    assert scaled["none"] == set()
    assert scaled["folded"] & contexts
    normed = scaled["folded"] - contexts
    assert normed and normed <= sites_above_the_target(synthetic)
    assert all((plain[tensor].sqnr_db or 0) < 30 for tensor in normed)
    assert scaled["folded"] < scaled["everywhere"]
    assert set(sites_above_the_target(synthetic)) & scaled["everywhere"]
    assert plans["none"] == make_plan("peg", synthetic.context()).sites
    for prescale, sites in plans.items():
        for tensor in scaled[prescale]:
            better, before = sites[tensor].sqnr_db, plain[tensor].sqnr_db
            assert better is not None and before is not None and better > max(before, 30)
            assert "factors per channel" in sites[tensor].reason


def test_shifts_take_the_middle_of_each_range_off_behind_layer_norms(synthetic: Synthetic) -> None:
    for prescale in ("folded", "everywhere"):
        options = {"prescale": prescale}
        before = make_plan("peg", synthetic.context(**options)).sites
        after = make_plan("peg", synthetic.context(**options, shift=True)).sites
        shifted = {t for t, s in after.items() if getattr(s.treatment, "pre_quant_shift", ())}
        normed = {s.tensor for s in synthetic.structure.sites if LAYER_NORM in s.roles}
        assert shifted and shifted <= normed
        for tensor in shifted:
            treatment, data = after[tensor].treatment, synthetic.data[tensor]
            assert isinstance(treatment, PerTensor)
            shift = np.array(treatment.pre_quant_shift)
            middle = (data.min(axis=0) + data.max(axis=0)) / 2
            np.testing.assert_allclose(shift, middle, rtol=1e-5, atol=1e-6)
            scaled = (data - shift) * np.array(treatment.pre_quant_scale)
            low, high = affine_range(treatment.affine)
            step = treatment.affine.scale
            assert low <= scaled.min() + step and scaled.max() - step <= high
            old, new = before[tensor].sqnr_db, after[tensor].sqnr_db
            assert old is not None and new is not None and new >= old
        assert not any(getattr(s.treatment, "pre_quant_shift", ()) for s in before.values())


@pytest.mark.parametrize(("name", "value"), [("prescale", "everywhere"), ("shift", True)])
def test_peg_says_that_scope_all_has_no_factors(
    synthetic: Synthetic, name: str, value: Any
) -> None:
    with pytest.warns(QDeployWarning, match=f"--{name} is of scope gemm"):
        plan = make_plan("peg", synthetic.context(scope="all", **{name: value}))
    assert not any(getattr(site.treatment, "pre_quant_scale", ()) for site in plan.sites.values())


def test_peg_hands_on_the_means_that_correct_biases(synthetic: Synthetic) -> None:
    """With automatic groups in scope gemm: elsewhere groupings are compared, and nothing else."""
    for options, there in (({}, True), ({"groups": 2}, False), ({"scope": "all"}, False)):
        for tensor, site in make_plan("peg", synthetic.context(**options)).sites.items():
            assert bool(site.mean) == there
            if there:
                exact = synthetic.data[tensor].mean(axis=0)
                np.testing.assert_allclose(site.mean, exact, rtol=1e-3, atol=1e-3)
    for site in make_plan("w8a8", synthetic.context()).sites.values():
        assert site.mean == ()


def test_peg_does_not_fold_into_weights_with_one_scale(synthetic: Synthetic) -> None:
    options = {"prescale": "folded", "weights": "per-tensor"}
    sites = make_plan("peg", synthetic.context(**options)).sites
    for tensor in synthetic.structure.linear_sources:
        assert not getattr(sites[tensor].treatment, "prescale", ())


@pytest.mark.parametrize("grouping", ["contiguous", "sorted", "optimal"])
@pytest.mark.parametrize("k", [2, 4, HIDDEN])
def test_peg_with_k_groups_everything(synthetic: Synthetic, grouping: str, k: int) -> None:
    plan = make_plan("peg", synthetic.context(groups=k, grouping=grouping, scope="all"))
    for site in synthetic.structure.sites:
        treatment = plan.treatment(site.tensor)
        if site.channels == 1:
            assert isinstance(treatment, PerTensor)
            assert plan.sites[site.tensor].reason == "no channels to group"
            continue
        assert isinstance(treatment, Grouped) and treatment.outlier_channels == ()
        assert len(treatment.groups) == min(k, site.channels)
        check_partition(treatment)
        for group, affine in zip(treatment.groups, treatment.affines, strict=True):
            seen = synthetic.statistics[site.tensor]
            low, high = affine_range(affine)
            half = affine.scale / 2 * (1 + 1e-6)
            assert low <= seen.minimum[list(group)].min() + half
            assert high >= seen.maximum[list(group)].max() - half


def test_more_groups_than_a_gemm_input_has_channels_are_refused(synthetic: Synthetic) -> None:
    """The way out holds: as many as there are, automatic, or the narrow sites in float."""
    for options in ({"scope": "gemm"}, {"scope": "all"}):
        with pytest.raises(PlanError) as refused:
            make_plan("peg", synthetic.context(groups=HIDDEN + 1, **options))
        text = str(refused.value)
        assert f"--groups is {HIDDEN + 1}" in text and f"has {HIDDEN} channels" in text
        assert f"Give at most {HIDDEN}, or 'auto'" in text
    narrow = [s for s in synthetic.context(scope="gemm").sites if s.channels == HIDDEN]
    assert f"--float-sites {narrow[0].name}" in text
    kept = tuple(site.name for site in narrow)
    wide = make_plan("peg", synthetic.context(groups=HIDDEN + 1, float_sites=kept))
    counts = [
        len(s.treatment.groups) for s in wide.sites.values() if isinstance(s.treatment, Grouped)
    ]
    assert HIDDEN + 1 in counts


def test_peg_groupings_differ_and_optimal_is_best(synthetic: Synthetic) -> None:
    found = {
        g: make_plan("peg", synthetic.context(groups=3, grouping=g, activations=SYMMETRIC)).sites
        for g in ("contiguous", "sorted", "optimal")
    }
    for tensor in sites_above_the_target(synthetic):
        db: dict[str, Any] = {g: sites[tensor].sqnr_db for g, sites in found.items()}
        assert db["optimal"] >= db["sorted"] and db["optimal"] > db["contiguous"] + 3


@pytest.mark.parametrize("n", [1, 3])
def test_peg_with_outlier_channels_given(synthetic: Synthetic, n: int) -> None:
    plan = make_plan("peg", synthetic.context(groups=1, outlier_channels=n))
    for tensor, site in plan.sites.items():
        assert isinstance(site.treatment, Grouped)
        assert len(site.treatment.outlier_channels) == n and len(site.treatment.groups) == 1
        check_partition(site.treatment)
        if tensor in sites_above_the_target(synthetic):
            assert OUTLIER in site.treatment.outlier_channels
    everything = make_plan("peg", synthetic.context(groups=1, outlier_channels=1000))
    for site in everything.sites.values():  # one channel is left to quantize
        assert isinstance(site.treatment, Grouped) and site.treatment.groups != ()


def test_symmetric_plans_are_symmetric(synthetic: Synthetic) -> None:
    for strategy in ("w8a8", "percentile", "mse", "smoothquant"):
        plan = make_plan(strategy, synthetic.context(activations=SYMMETRIC))
        assert {per_tensor(plan, t).affine.zero_point for t in plan.sites} == {128}


def test_an_unknown_strategy(synthetic: Synthetic) -> None:
    for call in (lambda: make_plan("pge", synthetic.context()), lambda: needs_statistics("pge")):
        with pytest.raises(PlanError, match=r"Unknown strategy 'pge'. Did you mean 'peg'"):
            call()
    assert set(STATIC) | {"fp32", "fp16", "dynamic", "fp8"} == set(STRATEGIES)


@pytest.mark.parametrize(
    ("strategy", "options", "named"),
    [
        ("w8a8", {"groups": 3, "grouping": "sorted"}, "--grouping, --groups"),
        ("dynamic", {"activations": "symmetric"}, "--activations"),
        ("fp32", {"scope": "all", "weights": "per-tensor"}, "--scope, --weights"),
        ("peg", {"percentile": 99.0}, "--percentile"),
    ],
)
def test_options_that_a_strategy_does_not_read(
    synthetic: Synthetic, strategy: str, options: dict[str, Any], named: str
) -> None:
    with pytest.warns(QDeployWarning, match=f"{strategy} does not read {named}: the engine is"):
        make_plan(strategy, synthetic.context(**options))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_options_that_a_strategy_reads_pass_in_silence(
    synthetic: Synthetic, strategy: str, recwarn: pytest.WarningsRecorder
) -> None:
    make_plan(strategy, synthetic.context())
    assert not [w for w in recwarn if "does not read" in str(w.message)]


def test_a_percentile_that_clips_nothing_warns(synthetic: Synthetic) -> None:
    with pytest.warns(QDeployWarning, match="exactly the same ranges as w8a8"):
        make_plan("percentile", synthetic.context(percentile=100.0))


def test_alpha_may_be_a_whole_number(synthetic: Synthetic) -> None:
    assert make_plan("smoothquant", synthetic.context(alpha=1)).options["alpha"] == 1


def test_a_lower_noise_target_treats_less(synthetic: Synthetic) -> None:
    """dB below the output: fewer sites are above the target where less is asked."""
    counts = []
    for target in (5.0, 30.0, 60.0):
        sites = make_plan("peg", synthetic.context(noise_target=target)).sites.values()
        counts.append(sum(isinstance(site.treatment, Grouped) for site in sites))
    assert counts[0] == 0 < counts[1] <= counts[2]


@pytest.mark.parametrize("strategy", ["w8a8", "peg", "dynamic", "mixed"])
def test_named_sites_stay_in_float(synthetic: Synthetic, strategy: str) -> None:
    tensor = sorted(sites_above_the_target(synthetic))[0]
    name = synthetic.structure.by_tensor[tensor].name
    plan = make_plan(strategy, synthetic.context(float_sites=(name,)))
    assert plan.treatment(tensor) == Float()
    readers = {gemm.name for gemm in synthetic.structure.consumers(tensor)}
    assert readers and not readers & set(plan.int8_gemms)
    assert plan.sites[tensor].reason == "named in --float-sites"


def test_a_site_that_is_none_is_refused(synthetic: Synthetic) -> None:
    with pytest.raises(PlanError, match=r"Unknown site of this plan .*Did you mean"):
        make_plan("peg", synthetic.context(float_sites=("layer.0.norm1.outt",)))


@pytest.mark.parametrize("target", [0.0, -3.0, 101.0])
def test_noise_targets_are_decibels(target: float) -> None:
    with pytest.raises(PlanError, match="--noise-target"):
        PlanOptions(noise_target=target)
