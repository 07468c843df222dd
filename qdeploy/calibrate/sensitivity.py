"""How much of a site's noise comes out of the model: measured, one site after the other.

The noise that a site adds to its GEMM is known from statistics (`noise`). What the layers behind it
make of that noise is not: from one site to the next it differs by 20 dB. So noise is added to the
input of each GEMM by itself, in the FP32 model, and the outputs are compared. It is drawn, not made
by rounding: a channel that hardly varies would be off by a constant, by more or less as its value
happens to lie between two steps. Dong et al. 2019 (HAWQ, arXiv 1905.03696) take curvature for the
same question, which needs gradients; an ONNX file has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from qdeploy.calibrate.context import is_gemm_input, weights_of
from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.noise import NoiseModel
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.files.artifact import read_manifest
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.session import blaming, run_session, session_of
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Site, Structure
from qdeploy.head import Head, head_of
from qdeploy.onnx_file.check import GRAPH
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.types import Array

Feeds = Mapping[str, Array]
ROWS = 32  # enough for 1 dB
# Noise that is let in, dB below the variance of the GEMM's output: as int8 adds it, and far above
# what FP32 adds.
_LET_IN_DB = 40.0
_SEED = 0
_MOST_DB = 200.0  # in place of infinity, where outputs do not change at all


def add_sensitivity(
    model_dir: Path, statistics: Mapping[str, SiteStatistics], batches: Iterable[Feeds]
) -> None:
    """Measure the sensitivity of a model directory's sites, and note it in their statistics.

    Raises:
        ModelError, RunError: see `load_model` and `run_session`.
    """
    model, _ = load_model(model_dir)
    head = head_of(model_dir, read_manifest(model_dir, "model"))
    structure = find_structure(model, model_dir / GRAPH)
    with blaming(model_dir / GRAPH):
        found = measure_sensitivity(model, structure, statistics, batches, head)
    for tensor, level in found.items():
        statistics[tensor].sensitivity = level


def measure_sensitivity(
    model: ir.Model,
    structure: Structure,
    statistics: Mapping[str, SiteStatistics],
    batches: Iterable[Feeds],
    head: Head,
    *,
    threads: int = 2,
) -> dict[str, float]:
    """The sensitivity of every GEMM input, dB, by tensor name.

    It is the noise of the model's answers above that of the GEMM's output, each as a share of its
    own signal: 0 dB where a GEMM that is 40 dB above its noise gives answers 40 dB above theirs.
    −160 dB is that of a site whose noise changes no answer.

    Args:
        model: canonical model, FP32.
        structure: its sites.
        statistics: by tensor name, of the same model.
        batches: int64 [B, S] feeds with an `attention_mask`; some dozens of rows.
        head: says which outputs answer, and whether of rows or tokens.
        threads: of the runs.
    """
    weights = weights_of(model, structure)
    noise = NoiseModel(structure, statistics, weights, per_channel_weights=True)
    sites = [s for s in structure.sites if is_gemm_input(s) and s.tensor in statistics]
    session = _open_noisy(model, structure, sites, threads)
    kept = list(batches)
    exact = _outputs(session, sites, kept, head, {})
    found = {}
    for site in sites:
        # white noise of one step: share = step² / 12 · Σ over channels of what each adds
        spread = max(float(noise.channel_weight(site).sum()), 1e-30)
        step = float(np.sqrt(12 * 10 ** (-_LET_IN_DB / 10) / spread))
        noisy = _outputs(session, sites, kept, head, {site.tensor: step})
        level = logit_sqnr_db(list(zip(exact, noisy, strict=True)), exclusive=head.exclusive)
        found[site.tensor] = _LET_IN_DB - float(np.clip(level, -_MOST_DB, _MOST_DB))
    return found


def _open_noisy(
    model: ir.Model, structure: Structure, sites: Sequence[Site], threads: int
) -> ort.InferenceSession:
    """A session of the model that adds noise of a given step to every GEMM's input."""
    edit = GraphEditor(model.clone())
    for site in sites:
        value = edit.values[site.tensor]
        step = ir.Value(
            name=_step_name(site), type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([])
        )
        edit.graph.inputs.append(step)
        # in steps, as an error of rounding is spread
        drawn = edit.node(
            "RandomUniformLike",
            [value],
            f"{site.tensor}_drawn",
            dtype=ir.DataType.FLOAT,
            low=-0.5,
            high=0.5,
            seed=float(_SEED),
        ).outputs[0]
        noise = edit.node("Mul", [drawn, step], f"{site.tensor}_noise").outputs[0]
        noisy = edit.node("Add", [value, noise], f"{site.tensor}_noisy").outputs[0]
        products = {gemm.node for gemm in structure.consumers(site.tensor)}
        for node, at in value.uses():
            if node.name in products:
                node.replace_input_with(at, noisy)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session: ort.InferenceSession = session_of(edit.finish(), options)
    return session


def _step_name(site: Site) -> str:
    return f"{site.tensor}:step"


def _outputs(
    session: ort.InferenceSession,
    sites: Iterable[Site],
    batches: Sequence[Feeds],
    head: Head,
    steps: Mapping[str, float],
) -> list[Array]:
    """The answers of all rows without padding, with noise of these steps."""
    given = {_step_name(s): np.array(steps.get(s.tensor, 0.0), np.float32) for s in sites}
    wanted = [v.name for v in session.get_inputs() if v.name not in given]
    names = [v.name for v in session.get_outputs()]
    parts = []
    for feeds in batches:
        outputs = run_session(session, {n: feeds[n] for n in wanted} | given, Path(GRAPH))
        named = dict(zip(names, outputs, strict=True))
        own = feeds["attention_mask"].astype(bool)
        parts.append([named[n] if head.of_rows else named[n][own] for n in head.answers])
    return [np.concatenate(values) for values in zip(*parts, strict=True)]
