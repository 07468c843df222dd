"""How much of a site's noise comes out of the model: measured, kept, and what it does to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qdeploy.calibrate.context import MOST_SENSITIVITY, Context, is_gemm_input, weights_of
from qdeploy.calibrate.noise import NoiseModel
from qdeploy.calibrate.observe import observe
from qdeploy.calibrate.options import PlanOptions
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.sensitivity import measure_sensitivity
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import make_plan
from qdeploy.deploy.build import build_engine
from qdeploy.errors import QDeployWarning, StatisticsError
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.session import session_of
from qdeploy.graph.sites import find_structure
from qdeploy.head import SEQUENCES, Head
from tests.calibrate.conftest import Synthetic
from tests.calibrate.encoder import encoder, feeds

DEPTHS = (2, 4)  # two sizes
LET_IN = 1e-4  # the share that is drawn
SMALLER = 64
HEAD = Head(SEQUENCES, ("no", "yes"))
Batches = list[dict[str, Any]]


def calm(depth: int) -> ir.Model:
    """The encoder without its outlier channel: with it attention looks at one token, or another."""
    model = encoder(layers=depth)
    for name, value in model.graph.initializers.items():
        if "norm" in name and name.endswith("bias"):
            scaled(value, 0)
    return model


def scaled(value: ir.Value, factor: float) -> None:
    assert value.const_value is not None
    array = (value.const_value.numpy() * factor).astype(np.float32)
    value.const_value = ir.tensor(array, name=value.name)


def batches_of(rows: int) -> Batches:
    return [feeds(rows, 8 * (seed + 1), seed=seed) for seed in range(4)]


def measured(model: ir.Model, batches: Batches) -> dict[str, float]:
    """By the name of the site."""
    structure = find_structure(model)
    statistics = observe(model, structure, batches)
    found = measure_sensitivity(model, structure, statistics, batches, HEAD)
    return {structure.by_tensor[tensor].name: level for tensor, level in found.items()}


def drawn(model: ir.Model, batches: Batches) -> dict[str, float]:
    """The same, of Gaussian noise that is drawn and added to a site in front of its GEMMs."""
    structure = find_structure(model)
    noise = NoiseModel(
        structure,
        observe(model, structure, batches),
        weights_of(model, structure),
        per_channel_weights=True,
    )
    rng, exact, found = np.random.default_rng(0), outputs(model, batches), {}
    for site in (s for s in structure.sites if is_gemm_input(s) and s.name.startswith("layer")):
        edit = GraphEditor(model.clone())
        value = edit.values[site.tensor]
        added = ir.Value(
            name="noise", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([None] * 3)
        )
        edit.graph.inputs.append(added)
        noisy = edit.node("Add", [value, added], "noisy").outputs[0]
        readers = {gemm.node for gemm in structure.consumers(site.tensor)}
        for node, at in value.uses():
            if node.name in readers:
                node.replace_input_with(at, noisy)
        spread = np.float32(np.sqrt(LET_IN / noise.channel_weight(site).sum()))
        given = [
            batch
            | {
                "noise": spread
                * rng.standard_normal((*batch["input_ids"].shape, site.channels), np.float32)
            }
            for batch in batches
        ]
        other = outputs(edit.finish(), given)
        share = np.square(other - exact).sum() / np.square(exact - exact.mean(0)).sum()
        found[site.name] = 10 * np.log10(share / LET_IN)
    return found


def outputs(model: ir.Model, batches: Batches) -> Any:
    session = session_of(model, ort.SessionOptions())
    return np.concatenate([session.run(None, batch)[0] for batch in batches])


@pytest.mark.parametrize("depth", DEPTHS)
def test_it_is_that_of_noise_added_by_hand(depth: int) -> None:
    batches = batches_of(100)
    found, expected = (f(calm(depth), batches) for f in (measured, drawn))
    found = {name: level for name, level in found.items() if name in expected}
    assert len(found) == 4 * depth
    assert max(found.values()) - min(found.values()) > 6  # there is something to tell
    for name, level in found.items():
        assert level == pytest.approx(expected[name], abs=1.5), name


@pytest.mark.parametrize("depth", DEPTHS)
def test_less_comes_out_of_a_gemm_that_gives_less(depth: int) -> None:
    """Noise is a share of the GEMM's output: an output a 64th as large brings 36 dB less out."""
    batches, name = batches_of(8), f"layer.{depth - 1}.down"
    model = calm(depth)
    before = measured(model, batches)[f"{name}.input"]
    for part in ("weight", "bias"):
        scaled(model.graph.initializers[f"{name}.{part}"], 1 / SMALLER)
    after = measured(model, batches)[f"{name}.input"]
    # what the block no longer adds changes the outputs too
    assert before - after == pytest.approx(20 * np.log10(SMALLER), abs=5)


@pytest.mark.parametrize("depth", DEPTHS)
def test_padding_changes_nothing(depth: int) -> None:
    model = calm(depth)
    short, padded = ([feeds(400, 8, pad_to=to)] for to in (None, 24))
    found, same = measured(model, padded), measured(model, short)
    assert found.keys() == same.keys()
    for name, level in found.items():
        assert level == pytest.approx(same[name], abs=2), name


@pytest.mark.parametrize("columns", [2, 8])
def test_a_row_may_be_as_long_as_it_has_outputs(columns: int) -> None:
    """[B, C] and [B, S] are told apart by the head, not by their sizes."""
    model = encoder()
    for name in ("classifier.weight", "classifier.bias"):
        value = model.graph.initializers[name]
        assert value.const_value is not None
        array = value.const_value.numpy()
        more = np.random.default_rng(0).normal(size=(columns, *array.shape[1:]))
        value.const_value = ir.tensor(more.astype(np.float32), name=name)
        value.shape = ir.Shape(more.shape)
    model.graph.outputs[0].shape = ir.Shape(["batch", columns])
    alone, mixed = [feeds(6, columns)], [feeds(6, columns), feeds(6, columns + 1)]
    for batches in (alone, mixed):
        assert len(measured(model, batches)) > 4


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_site_that_nothing_hears_moves_no_other(depth: int) -> None:
    batches, dead = batches_of(8), f"layer.{depth - 1}.down"
    model = calm(depth)
    scaled(model.graph.initializers[f"{dead}.weight"], 0)
    structure = find_structure(model)
    statistics = observe(model, structure, batches)
    levels = measure_sensitivity(model, structure, statistics, batches, HEAD)
    for tensor, level in levels.items():
        statistics[tensor].sensitivity = level
    weights = weights_of(model, structure)
    context = Context(structure, statistics, weights, PlanOptions(sensitivity=True))
    above = {site.name: context.sensitivity_above_mean(site) for site in context.sites}
    assert above[f"{dead}.input"] == -MOST_SENSITIVITY
    others = [moved for name, moved in above.items() if not name.startswith(dead)]
    assert min(others) < 0 < max(others)


def context_with(synthetic: Synthetic, levels: Mapping[str, float], **options: Any) -> Context:
    """The encoder's context, whose GEMM inputs have these sensitivities, by name; 0 the others."""
    statistics = deepcopy(synthetic.statistics)
    for site in filter(is_gemm_input, synthetic.structure.sites):
        statistics[site.tensor].sensitivity = levels.get(site.name, 0.0)
    return replace(synthetic.context(**options), statistics=statistics)


def test_a_plan_asks_more_of_sites_that_matter(synthetic: Synthetic) -> None:
    name = "layer.0.up.input"
    tensor = next(s.tensor for s in synthetic.structure.sites if s.name == name)
    noise = {}
    for level in (-30.0, 0.0, 30.0):
        context = context_with(synthetic, {name: level}, sensitivity=True, prescale="none")
        plan = make_plan("peg", context)
        noise[level] = plan.sites[tensor].sqnr_db
    assert noise[-30.0] < noise[30.0]
    assert noise[-30.0] <= noise[0.0] <= noise[30.0]


def test_a_number_of_groups_leaves_nothing_to_weigh(synthetic: Synthetic) -> None:
    context = context_with(synthetic, {}, sensitivity=True, groups=2)
    with pytest.warns(QDeployWarning, match=r"--groups 2 asks for none"):
        make_plan("peg", context)


def test_a_target_moves_by_the_sensitivity_above_the_mean_within_limits(
    synthetic: Synthetic,
) -> None:
    names = [site.name for site in context_with(synthetic, {}).sites]
    levels = {names[0]: 3.0, names[1]: -3.0, names[2]: 40.0, names[3]: -40.0}
    context = context_with(synthetic, levels, sensitivity=True)
    above = {site.name: context.sensitivity_above_mean(site) for site in context.sites}
    most = MOST_SENSITIVITY
    assert [above[name] for name in names[:5]] == pytest.approx([3, -3, most, -most, 0])
    off = context_with(synthetic, levels)
    assert {off.sensitivity_above_mean(site) for site in off.sites} == {0.0}


def test_it_is_kept_and_held_against_its_digest(synthetic: Synthetic, tmp_path: Path) -> None:
    tensor = synthetic.structure.gemms[0].input
    seen = deepcopy(synthetic.statistics[tensor])
    seen.sensitivity = -3.5
    origin = Statistics.load(calibrated(tmp_path)).origin
    Statistics(origin, {tensor: seen}).save(tmp_path / "kept.npz")
    assert Statistics.load(tmp_path / "kept.npz").sites[tensor].sensitivity == -3.5
    with np.load(tmp_path / "kept.npz") as arrays:
        changed = dict(arrays) | {f"{tensor}/sensitivity": np.array(3.5)}
    np.savez(tmp_path / "changed.npz", **changed)
    with pytest.raises(StatisticsError, match=r"not those that were observed"):
        Statistics.load(tmp_path / "changed.npz")


def calibrated(tmp_path: Path, **options: Any) -> Path:
    from tests.calibrate.encoder import model_directory

    home = tmp_path / "model"
    if not home.exists():
        model_directory(home)
    return calibrate_model(home, data="qnli-mini", calibration_rows=40, **options)


def test_it_is_added_without_a_second_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = calibrated(tmp_path)
    assert not Statistics.load(path).has_sensitivity

    def observed(*_: Any, **__: Any) -> None:
        raise AssertionError("a second pass")

    monkeypatch.setattr("qdeploy.calibrate.observe.observe", observed)
    assert calibrated(tmp_path, sensitivity=True) == path
    before = path.stat().st_mtime_ns
    seen = Statistics.load(path)
    assert sum(site.sensitivity is not None for site in seen.sites.values()) > 4
    calibrated(tmp_path, sensitivity=True)
    assert path.stat().st_mtime_ns == before
    monkeypatch.undo()
    again = Statistics.load(calibrated(tmp_path, second_moments=True))
    assert again.has_products
    levels = {name: site.sensitivity for name, site in seen.sites.items()}
    assert {name: site.sensitivity for name, site in again.sites.items()} == levels


def test_a_build_says_how_what_it_lacks_is_measured(tmp_path: Path) -> None:
    path = calibrated(tmp_path)
    more: dict[str, Any] = {"statistics": path, "sensitivity": True}
    with pytest.raises(StatisticsError, match=r"qdeploy calibrate MODEL_DIR --sensitivity`"):
        build_engine(tmp_path / "model", tmp_path / "engine", **more)
    with pytest.raises(StatisticsError, match=r"MODEL_DIR --second-moments --sensitivity`"):
        build_engine(tmp_path / "model", tmp_path / "engine", weight_rounding="compensated", **more)
    assert not (tmp_path / "engine").exists()


def test_merged_statistics_have_the_mean(synthetic: Synthetic) -> None:
    one, two, none = (
        deepcopy(synthetic.statistics[synthetic.structure.gemms[0].input]) for _ in range(3)
    )
    one.sensitivity, two.sensitivity = 2.0, 4.0
    one.merge(two)
    assert one.sensitivity == 3.0
    one.merge(none)
    assert one.sensitivity is None
