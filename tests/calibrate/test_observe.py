"""One pass over the model: padding left out, folded heads understood, NaN named."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate.observe import observe, real_rows
from qdeploy.errors import ModelError, StatisticsError
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Site
from tests.calibrate.conftest import Synthetic
from tests.calibrate.encoder import encoder, feeds
from tests.exports import Exports
from tests.tolerances import PADDED_BATCH


def site(channels: int, *axes: int) -> Site:
    return Site("site", "tensor", frozenset(), channels, axes)


MASK = np.array([[True, True, False], [True, False, False]])  # 3 real tokens


def test_real_rows_of_tokens() -> None:
    value = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    found = real_rows(value, MASK, site(4, 1))
    np.testing.assert_array_equal(found, np.stack([value[0, 0], value[0, 1], value[1, 0]]))


def test_real_rows_of_attention() -> None:
    value = np.arange(2 * 5 * 3 * 3, dtype=np.float32).reshape(2, 5, 3, 3)
    found = real_rows(value, MASK, site(1, 2, 3))
    expected = [value[0, :, :2, :2].ravel(), value[1, :, :1, :1].ravel()]
    assert found.shape == (25, 1)
    assert sorted(found.ravel()) == sorted(np.concatenate(expected))


def test_real_rows_of_heads_folded_into_the_batch() -> None:
    value = np.arange(2 * 5 * 3 * 3, dtype=np.float32).reshape(10, 3, 3)  # B · heads
    found = real_rows(value, MASK, site(1, 1, 2))
    expected = [value[:5, :2, :2].ravel(), value[5:, :1, :1].ravel()]
    assert sorted(found.ravel()) == sorted(np.concatenate(expected))
    with_channels = real_rows(value, MASK, site(3, 1))
    assert with_channels.shape == (15, 3)


def test_real_rows_without_tokens() -> None:
    pooled = np.ones((2, 4), np.float32)
    assert real_rows(pooled, MASK, site(4)).shape == (2, 4)
    positions = np.ones((7, 4), np.float32)  # belongs to no row of the batch
    assert real_rows(positions, MASK, site(4)).shape == (7, 4)


def every_row_alone(model: ir.Model, structure: Any, batch: dict[str, Any]) -> Any:
    """The rows one by one, without their padding."""
    for at, mask in enumerate(batch["attention_mask"]):
        yield {k: v[at : at + 1, : mask.sum()] for k, v in batch.items()}


def assert_close(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    for tensor, one in a.items():
        other = b[tensor]
        scale = max(float(one.absolute.max()), 1e-3)
        assert one.count == other.count, tensor
        for x, y in ((one.minimum, other.minimum), (one.maximum, other.maximum)):
            np.testing.assert_allclose(x, y, atol=PADDED_BATCH * scale, err_msg=tensor)
        np.testing.assert_allclose(one.power, other.power, atol=PADDED_BATCH * scale**2)


def test_padding_leaves_no_trace() -> None:
    model = encoder()
    structure = find_structure(model)
    short, long = feeds(2, 5, pad_to=16), feeds(3, 16, seed=1)
    batch = {name: np.concatenate([short[name], long[name]]) for name in short}
    padded = observe(model, structure, [batch], threads=1)
    alone = observe(model, structure, every_row_alone(model, structure, batch), threads=1)
    assert_close(padded, alone)
    assert padded["layer.0.norm1.out"].count == 2 * 5 + 3 * 16
    assert padded["layer.0.shares"].count == 2 * (2 * 25 + 3 * 256)
    unmasked = {**batch, "attention_mask": np.ones_like(batch["attention_mask"])}
    with pytest.raises(AssertionError):  # and the comparison would see it
        assert_close(observe(model, structure, [unmasked], threads=1), alone)


def test_padding_leaves_no_trace_in_folded_heads(exported: Exports) -> None:
    model = ir.load(exported("deberta-v2").model_dir / "model.onnx")
    structure = find_structure(model)
    ids = np.random.default_rng(0).integers(5, 100, (2, 12))
    mask = np.ones_like(ids)
    mask[1, 7:], ids[1, 7:] = 0, 0
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    padded = observe(model, structure, [batch], threads=1)
    alone = observe(model, structure, every_row_alone(model, structure, batch), threads=1)
    # tensors of relative positions belong to no row: they are seen once per batch
    by_row = {s.tensor for s in structure.sites if s.sequence_axes and s.channels in (1, 32, 64)}
    folded = {s.tensor for s in structure.sites if s.channels == 1}
    assert folded <= by_row and len(folded) >= 4
    for tensor in by_row:
        assert padded[tensor].count == alone[tensor].count, tensor
    assert_close(*({t: s[t] for t in sorted(folded)} for s in (padded, alone)))


def test_every_site_is_observed_and_the_model_unchanged(synthetic: Synthetic) -> None:
    before = [v.name for v in synthetic.model.graph.outputs]
    found = observe(synthetic.model, synthetic.structure, [feeds(2, 6)], threads=1)
    assert list(found) == [s.tensor for s in synthetic.structure.sites]
    assert [s.channels for s in synthetic.structure.sites] == [f.channels for f in found.values()]
    assert [v.name for v in synthetic.model.graph.outputs] == before == ["logits"]


def test_nan_is_named() -> None:
    model = encoder()
    bias = model.graph.initializers["layer.1.up.bias"]
    bias.const_value = ir.tensor(np.full(32, np.nan, np.float32), name=bias.name)
    with pytest.raises(
        StatisticsError, match=r"layer\.1\.up\.output: the model gave NaN or infinity on a calibra"
    ):
        observe(model, find_structure(model), [feeds(1, 4)], threads=1)


def test_what_is_refused(synthetic: Synthetic) -> None:
    with pytest.raises(StatisticsError, match=r"no calibration row. Name data with --data"):
        observe(synthetic.model, synthetic.structure, [], threads=1)
    lacking = {"attention_mask": np.ones((1, 4), np.int64)}
    with pytest.raises(ModelError, match=r"needs the inputs \['input_ids'\]"):
        observe(synthetic.model, synthetic.structure, [lacking], threads=1)
