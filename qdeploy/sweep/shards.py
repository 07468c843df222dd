"""Calibration in shards: every worker of a Ray cluster observes some of the batches.

Batches are the same as in one pass, each observed whole by one worker, and statistics merge: so
ranges and histograms have the bits of one pass, and sums differ in their last digits alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from qdeploy.calibrate.observe import Observer, observe_directory
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.statistics import merge_sites
from qdeploy.errors import QDeployError, TargetError
from qdeploy.sweep.connection import Connection
from qdeploy.sweep.parcel import directory_files, unpack_once
from qdeploy.types import Array

Feeds = Mapping[str, Array]
RETRIES = 2  # of a shard whose node or worker died


def observer_on(connection: Connection) -> Observer:
    """What observes batches on a cluster, for `calibrate_model`: one shard per node."""

    def observe(
        model_dir: Path, batches: Iterable[Feeds], products: bool = False
    ) -> dict[str, SiteStatistics]:
        ray = connection.ray
        kit, name = connection.kit(directory_files(model_dir))
        spread = ray.remote(max_retries=RETRIES, num_cpus=1, scheduling_strategy="SPREAD")
        task = spread(_observe)
        shards = split(list(batches), max(len(connection.nodes()), 1))
        running = [task.remote(kit, name, shard, products) for shard in shards]
        collected: dict[str, SiteStatistics] = {}
        try:
            for found in running:
                merge_sites(collected, ray.get(found))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, QDeployError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise TargetError(
                f"The cluster lost a shard of the calibration {RETRIES + 1} times: {error} "
                "Calibrate without --ray-address, or look at the cluster with `ray status`."
            ) from error
        return collected

    return observe


def split(batches: list[Feeds], shards: int) -> list[list[Feeds]]:
    """Batches dealt out in turn, since neighbours have rows of one length; none of them empty."""
    return [batches[start::shards] for start in range(min(shards, len(batches)))]


def _observe(
    kit: bytes, name: str, batches: list[Feeds], products: bool
) -> dict[str, SiteStatistics]:
    return observe_directory(unpack_once(kit, name), batches, products)
