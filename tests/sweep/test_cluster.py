"""Trials on a real Ray cluster of several nodes on this machine, one of which dies."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.calibrate.statistics import Statistics
from tests.calibrate.encoder import model_directory
from tests.sweep.test_shards import same_ranges

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.integration

# Trials: 3 + 8, more than the nodes run at once when one of them dies.
TRIALS = 11
RECIPE = """
calibration: {rows: 8, seed: 0}
latency: {shapes: [2x16], warmup: 1, iterations: 20, threads: 1}
resources: {default: {num_cpus: 1}}
trials:
  - {strategy: [w8a8, mixed, dynamic]}
  - strategy: peg
    scope: all
    groups: [2, 4]
    grouping: [contiguous, optimal]
    activations: [symmetric, asymmetric]
"""


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def options(cluster: Any, rows: str, other_rows: str) -> dict[str, Any]:
    return {"data": rows, "eval_data": other_rows, "ray_address": cluster.address}


def runs(folder: Path, step: str, node: str) -> list[tuple[float, float]]:
    """Begin and end of a step's runs on a node."""
    notes = [json.loads(path.read_text()) for path in folder.glob(f"trials/*/{step}.ran.json")]
    return [(n["began"], n["began"] + n["seconds"]) for n in notes if n["where"] == node]


def written(folder: Path) -> dict[Path, int]:
    """When each file of a trial was written, nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("trials/*/*")}


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["accuracy", "latency"])
def test_every_trial_ends_once_though_a_node_dies(
    cluster: Any, model: Path, options: dict[str, Any], tmp_path: Path, phase: str
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    ended: Counter[str] = Counter()
    doomed = list(cluster.worker_nodes)[-1]
    killed = threading.Event()

    def progress(stage: str, done: int, total: int) -> None:
        ended[f"{stage} {done}/{total}"] += 1
        if stage == f"trials: {phase}" and done == 4 and not killed.is_set():
            killed.set()
            cluster.remove_node(doomed, allow_graceful=False)

    folder = tmp_path / "sweep"
    result = qdeploy.sweep(model, folder, recipe=recipe, progress=progress, **options)
    assert killed.is_set()
    assert len(result["trials"]) == 1 + TRIALS
    assert [t["label"] for t in result["trials"] if t["error"] is not None] == []
    begun = (f"trials: accuracy 0/{TRIALS}", f"trials: latency 0/{TRIALS}")
    steps = {
        name: count
        for name, count in ended.items()
        if name.startswith("trials: ") and name not in begun
    }
    assert len(steps) == 2 * TRIALS and set(steps.values()) == {1}  # both of a trial, each once
    _, *trials = result["trials"]
    nodes = {trial["ran"]["latency"]["where"] for trial in trials}
    if phase == "accuracy":  # the dead one measured nothing
        assert len(nodes) == 2 and doomed.node_id not in nodes
    for node in nodes:  # never two at a time, and nothing else beside one
        alone = runs(folder, "latency", node)
        assert alone
        for first, last in alone:
            beside = [r for r in [*alone, *runs(folder, "accuracy", node)] if r != (first, last)]
            assert not [r for r in beside if r[0] < last and first < r[1]]

    before = written(folder)
    again = qdeploy.sweep(model, folder, recipe=recipe, **options)
    assert again["trials"] == result["trials"]
    assert written(folder) == before  # no trial ran again


@pytest.mark.slow
def test_a_calibration_in_shards_has_the_ranges_of_one_pass(
    cluster: Any, rows: str, tmp_path: Path
) -> None:
    models = [model_directory(tmp_path / name) for name in ("one", "many")]
    one = qdeploy.calibrate(models[0], data=rows, calibration_rows=24)
    many = qdeploy.calibrate(models[1], data=rows, calibration_rows=24, ray_address=cluster.address)
    assert one.name == many.name
    whole, merged = Statistics.load(one), Statistics.load(many)
    assert whole.origin == merged.origin
    same_ranges(whole.sites, merged.sites)


def test_what_no_node_has_is_a_failed_trial(
    cluster: Any, model: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "latency: {shapes: [1x8], warmup: 0, iterations: 2, threads: 1}\n"
        "calibration: {rows: 4}\n"
        "resources: {openvino: {num_cpus: 1, resources: {nowhere: 1}}}\n"
        "trials: [{strategy: w8a8, target: openvino}, {strategy: w8a8}]\n"
    )
    result = qdeploy.sweep(
        model,
        tmp_path / "sweep",
        recipe=recipe,
        **options,
    )
    assert "no node of the cluster has" in result["trials"][1]["error"]
    assert result["trials"][2]["error"] is None
