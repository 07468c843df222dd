"""Kinds, layers and depths of the sites of a known encoder."""

from __future__ import annotations

import pytest

from qdeploy.analyze.layers import FFN_RESIDUAL, places
from qdeploy.calibrate.model import load_model
from qdeploy.graph.sites import find_structure
from tests.calibrate.encoder import LAYERS, encoder
from tests.exports import Exports


def test_places_of_the_small_encoder() -> None:
    structure = find_structure(encoder())
    found = places(structure)
    assert set(found) == {site.tensor for site in structure.sites}
    by_name = {tensor: (p.kind, p.layer, p.depth) for tensor, p in found.items()}
    assert by_name["embeddings.norm.out"] == ("LayerNorm output", None, 0)
    assert by_name["layer.0.sum1"] == ("attention residual sum", 0, 1)
    assert by_name["layer.0.sum2"] == (FFN_RESIDUAL, 0, 1)
    assert by_name["layer.0.norm2.out"] == ("LayerNorm output", 0, 1)
    assert by_name["layer.1.gelu"] == ("activation function output", 1, 2)
    assert by_name["layer.1.down.out"] == ("FFN output", 1, 2)
    assert by_name["layer.1.norm2.out"] == ("LayerNorm output", 1, LAYERS)
    assert by_name["first"] == ("GEMM input", None, LAYERS)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "deberta-v2", "modernbert"])
def test_every_family_has_a_residual_sum_per_layer(family: str, exported: Exports) -> None:
    model, _ = load_model(exported(family).model_dir)
    found = places(find_structure(model)).values()
    layers = [p.layer for p in found if p.kind == FFN_RESIDUAL]
    assert layers == [0, 1]
