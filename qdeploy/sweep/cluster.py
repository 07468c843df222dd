"""Trials on a Ray cluster: one task per trial and step, and a latency alone on its node.

Nodes need qdeploy installed and share no disk: model, statistics and rows travel once per node, and
a trial's folder comes back with its result. Attempts are counted here and not by Ray, since a
result must count once, and a node that dies takes its latency to another node.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from qdeploy.files.scratch import scratch
from qdeploy.schemas.sweep import Resources
from qdeploy.sweep.connection import Connection, Node, Ref
from qdeploy.sweep.local import Ended, Run, TrialError, run_step
from qdeploy.sweep.parcel import directory_files, pack, unpack, unpack_once, unpack_whole
from qdeploy.sweep.stored import ACCURACY, ENGINE, LATENCY, PREDICTIONS
from qdeploy.sweep.trial import Request

ATTEMPTS = 3  # of a trial whose node or worker died; an error of its own is final
_WAIT_S = 1.0

# A step of a trial that runs on a node: what it wrote, as a parcel, and its run.
Sent: TypeAlias = "Ref[tuple[bytes, Run]]"


def runner_on(
    connection: Connection,
    shared: Mapping[str, Path],
    resources: Mapping[str, Resources],
) -> Callable[[str, Mapping[str, Request], Ended], None]:
    """What runs steps on a cluster.

    Args:
        connection: to the cluster.
        shared: `model` (directory), `statistics` and `rows` (files).
        resources: by target or "default": `num_cpus`, `num_gpus`, and `resources` (custom labels
            with their amounts), as Ray's tasks take them.
    """
    return _Cluster(connection, shared, resources).run


class _Cluster:
    """A connection, and what was sent over it already."""

    def __init__(
        self,
        connection: Connection,
        shared: Mapping[str, Path],
        resources: Mapping[str, Resources],
    ) -> None:
        self._ray = connection.ray
        self._nodes = connection.nodes
        self._resources = resources
        self._model = connection.kit(directory_files(shared["model"]))
        self._rest = connection.kit({shared[k].name: shared[k] for k in ("statistics", "rows")})
        self._sent: dict[tuple[str, ...], Ref[bytes]] = {}
        self._task = self._ray.remote(max_retries=0)(run_remotely)

    def run(self, step: str, requests: Mapping[str, Request], ended: Ended) -> None:
        """Run one step of every trial; each ends once, with a result or with its last error."""
        waiting = deque(requests)
        attempts = dict.fromkeys(requests, 0)
        running: dict[Sent, tuple[str, str | None, float]] = {}
        while waiting or running:
            for key, node in self._next(step, waiting, requests, running):
                attempts[key] += 1
                task = self._submit(step, requests[key], node)
                running[task] = (key, node["NodeID"] if node else None, time.time())
            if not running:
                if waiting and not self._possible(requests[waiting[0]]):
                    key = waiting.popleft()
                    wanted = self._wanted(requests[key])
                    run = Run(time.time(), 0.0, "no node")
                    ended(key, f"no node of the cluster has {wanted}", run)
                else:
                    time.sleep(_WAIT_S)
                continue
            done, _ = self._ray.wait(list(running), timeout=_WAIT_S)
            for task in done:
                key, _, began = running.pop(task)
                error, run, lost = self._take(task, requests[key], began)
                if lost and attempts[key] < ATTEMPTS:
                    waiting.append(key)
                    continue
                if lost:
                    error = f"lost {ATTEMPTS} times with its node or worker; the last: {error}"
                ended(key, error, run)

    def _take(self, task: Sent, request: Request, began: float) -> tuple[str | None, Run, bool]:
        """Lay a task's files into the trial's folder.

        Returns:
            Its error, its run (of one that failed, from when it was sent), and whether it was lost
            with its node or worker.
        """
        try:
            parcel, run = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            text = (
                str(cause) if isinstance(cause, TrialError) else f"{type(cause).__name__}: {cause}"
            )
            return text, Run(began, time.time() - began, "a node of the cluster"), False
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            text = lines[0] if lines else type(error).__name__
            return text, Run(began, time.time() - began, "a lost node"), True
        unpack_whole(parcel, Path(request.folder))
        return None, run, False

    def _next(
        self,
        step: str,
        waiting: deque[str],
        requests: Mapping[str, Request],
        running: Mapping[Sent, tuple[str, str | None, float]],
    ) -> list[tuple[str, Node | None]]:
        """Trials to start now, each with its node as Ray has it (None where Ray may choose)."""
        chosen: list[tuple[str, Node | None]] = []
        if step != "latency":
            possible = [key for key in waiting if self._possible(requests[key])]
            for key in possible:
                waiting.remove(key)
                chosen.append((key, None))
            return chosen
        busy = {node for _, node, _ in running.values()}
        for node in self._nodes():
            fitting = (k for k in waiting if _holds(node["Resources"], self._wanted(requests[k])))
            first = next(fitting, None)
            if node["NodeID"] not in busy and first is not None:
                waiting.remove(first)
                chosen.append((first, node))
        return chosen

    def _submit(self, step: str, request: Request, node: Node | None) -> Sent:
        options: dict[str, object] = {**self._wanted(request)}
        if node is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            # all of the node's CPUs: nothing else runs beside a latency; where the node has died
            # since, the task is lost like any other
            options["num_cpus"] = node["Resources"]["CPU"]
            affinity = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options["scheduling_strategy"] = affinity
        own = Path(request.folder)
        base = None if request.baseline is None else Path(request.baseline)
        part = ENGINE if step == "latency" else PREDICTIONS
        sent_own = self._send(own, ENGINE) if step == "latency" else None
        sent_base = None if base is None else self._send(base, part)
        return self._task.options(**options).remote(
            step, request, *self._model, *self._rest, sent_own, sent_base
        )

    def _send(self, folder: Path, part: str) -> Ref[bytes]:
        """One part of a trial's folder, put into the cluster; the baseline's only once."""
        key = (str(folder), part)
        if key not in self._sent:
            self._sent[key] = self._ray.put(pack(_part(folder, part)))
        return self._sent[key]

    def _wanted(self, request: Request) -> Resources:
        target = str(request.settings.get("target", "ort-cpu"))
        given: Resources = self._resources.get(target, self._resources.get("default", {}))
        return {"num_cpus": request.threads, **given}

    def _possible(self, request: Request) -> bool:
        wanted = self._wanted(request)
        return any(_holds(node["Resources"], wanted) for node in self._nodes())


def _holds(has: Mapping[str, float], wanted: Resources) -> bool:
    """Whether a node could ever run a task that wants this."""
    needs = {"CPU": wanted.get("num_cpus", 0), "GPU": wanted.get("num_gpus", 0)}
    needs |= wanted.get("resources", {})
    return all(has.get(name, 0) >= amount for name, amount in needs.items())


def _part(folder: Path, part: str) -> dict[str, Path]:
    """The files of one part of a trial's folder, under their names there."""
    return directory_files(folder / part, part) if part == ENGINE else {part: folder / part}


def run_remotely(
    step: str,
    request: Request,
    model: bytes,
    model_name: str,
    rest: bytes,
    rest_name: str,
    own: bytes | None,
    base: bytes | None,
) -> tuple[bytes, Run]:
    """One step of a trial on a node: what it wrote, as a parcel, and its `Run`.

    Raises:
        TrialError: the step failed.
    """
    import ray

    home, beside = unpack_once(model, model_name), unpack_once(rest, rest_name)
    with scratch("trial") as folder:
        trial, baseline = folder / "trial", folder / "baseline"
        for sent, path in ((own, trial), (base, baseline)):
            path.mkdir()
            if sent is not None:
                unpack(sent, path)
        asked = replace(
            request,
            folder=str(trial),
            model=str(home),
            statistics=str(beside / Path(request.statistics).name),
            data=str(beside / Path(request.data).name),
            baseline=None if base is None else str(baseline),
        )
        began = time.time()
        run_step(step, asked)
        run = Run(began, time.time() - began, str(ray.get_runtime_context().get_node_id()))
        parts = (LATENCY,) if step == "latency" else (ENGINE, PREDICTIONS, ACCURACY)
        files = [_part(trial, part) for part in parts]
        return pack({name: path for part in files for name, path in part.items()}), run
