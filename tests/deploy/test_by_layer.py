"""Layers told from names, and what a table of one row per layer says."""

from __future__ import annotations

import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Dynamic, Float, Grouped, PerTensor, Treatment
from qdeploy.deploy.by_layer import by_layer, causes_of_float, noisiest, rounding_of, treatment_text
from qdeploy.names import place_of
from qdeploy.schemas.certificate import CertifiedGemm
from qdeploy.schemas.fields import Precision
from qdeploy.schemas.inspection import RoundedSite

ONE = Affine(0.1, 128)


@pytest.mark.parametrize(
    ("name", "layer", "rest"),
    [
        ("bert.encoder.layer.11.output.dense.input", 11, "output.dense.input"),
        ("distilbert.transformer.layer.0.ffn.lin1", 0, "ffn.lin1"),
        ("/model/layers.3/attn/Wqkv/MatMul", 3, "attn/Wqkv/MatMul"),
        ("0.auto_model.encoder.layer.2.output.dense", 2, "output.dense"),
        ("modules.0.encoder.layer.2.output.dense", 2, "output.dense"),
        ("encoder.albert_layer_groups.0.albert_layers.0.ffn", 0, "ffn"),
        ("parts.4.dense", 4, "dense"),
        ("MatMul_17", None, "MatMul_17"),
        ("classifier.input", None, "classifier.input"),
        ("", None, ""),
    ],
)
def test_the_layer_of_a_name(name: str, layer: int | None, rest: str) -> None:
    assert place_of(name) == (layer, rest)


def test_treatments_in_words() -> None:
    treatments: list[Treatment] = [
        PerTensor(ONE),
        PerTensor(ONE, (1.0, 2.0)),
        Grouped(((0, 1), (2,)), (ONE, ONE)),
        Grouped(((0, 1),), (ONE,), (2, 3)),
        Float(),
        Dynamic(),
    ]
    assert [(rounding_of(one), treatment_text(one)) for one in treatments] == [
        ("1 scale", "one scale"),
        ("pre-scaled", "one scale, pre-scaled"),
        ("groups", "2 groups"),
        ("groups", "1 group, 2 channels float"),
        ("float", "float"),
        ("run time", "scale at run time"),
    ]


def site(name: str, text: str, sqnr: float | None) -> RoundedSite:
    return {"site": name, "rounding": text, "sqnr_db": sqnr}


def gemm(
    planned: Precision, share: float, reason: str = "", time: float | None = None
) -> CertifiedGemm:
    return {
        "planned": planned, "kernel": "MatMul", "flops_share": share, "reason": reason,
        "time_share": time,
    }  # fmt: skip


SITES = [
    site("emb.norm.output", "float", None),
    site("layer.0.query.input", "1 scale", 35.0),
    site("layer.0.up.input", "groups", 31.0),
    site("layer.10.query.input", "1 scale", 33.0),
    site("pooler.input", "1 scale", 40.0),
]
GEMMS = {
    "emb.project": gemm("float", 0.05, "named in --float-sites"),
    "layer.0.query": gemm("int8", 0.2, time=0.1),
    "layer.0.up": gemm("int8", 0.3, "no kernel reads its int8 weight", 0.3),
    "layer.10.query": gemm("int8", 0.4, time=0.2),
    "pooler": gemm("int8", 0.05, time=0.01),
}


def test_a_row_per_layer_in_the_order_of_the_graph() -> None:
    rows = by_layer(SITES, GEMMS, ran=True)
    assert [row["layer"] for row in rows] == ["embeddings", "0", "10", "head"]
    assert rows[1] == {
        "layer": "0",
        "gemms": 2,
        "planned": 2,
        "executed": 1,
        "flops_share": 0.5,
        "time_share": 0.4,
        "treatments": {"1 scale": 1, "groups": 1},
        "noisiest": {"site": "layer.0.up.input", "sqnr_db": 31.0},
    }
    assert (rows[0]["planned"], rows[0]["executed"], rows[0]["noisiest"]) == (0, 0, None)
    assert rows[0]["time_share"] is None
    assert sum(row["flops_share"] for row in rows) == pytest.approx(1)


def test_nothing_ran_of_a_dry_run() -> None:
    assert {row["executed"] for row in by_layer(SITES, GEMMS, ran=False)} == {None}


def test_products_outside_of_the_plan_have_no_place_but_their_number() -> None:
    gemms = {"a.0.b": gemm("int8", 0.5), "stem": gemm("float", 0.3), "a.1.c": gemm("float", 0.2)}
    rows = by_layer([], gemms, ran=True, others=["stem", "a.1.c"])
    assert [(row["layer"], row["gemms"]) for row in rows] == [("0", 1), ("1", 1), ("other", 1)]


def test_names_without_layers_share_a_row() -> None:
    rows = by_layer([], {"a": gemm("int8", 0.6), "b": gemm("float", 0.4, "why")}, ran=True)
    assert [(row["layer"], row["gemms"], row["executed"]) for row in rows] == [("all", 2, 1)]
    assert by_layer([], {}, ran=True) == []


def test_the_noisiest_come_first_and_float_has_no_noise() -> None:
    assert [entry["sqnr_db"] for entry in noisiest(SITES, 3)] == [31.0, 33.0, 35.0]
    assert noisiest(SITES[:1], 3) == []


def test_causes_of_float_with_counts_and_the_first_names() -> None:
    many = {f"g{n}": gemm("float", 0.1, "not in 8 bits") for n in range(5)}
    causes = causes_of_float(GEMMS | many)
    assert [(c["planned"], c["reason"], c["count"]) for c in causes] == [
        ("float", "not in 8 bits", 5),
        ("int8", "no kernel reads its int8 weight", 1),
        ("float", "named in --float-sites", 1),
    ]
    assert causes[0]["gemms"] == ["g0", "g1", "g2"] and causes[0]["flops_share"] == 0.5
    assert causes_of_float({"a": gemm("int8", 1.0)}) == []
