"""The estimates that a build tells, of the devices that its engine is for."""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.deploy.roofline.devices import DEVICES, Device
from qdeploy.deploy.roofline.estimate import estimate
from qdeploy.deploy.roofline.geometry import works
from qdeploy.schemas.manifest import EstimateFields

NOTE = "an estimate from the layers of the compiled engine and NVIDIA's figures; not measured"
# Where an engine is for most of the table.
USUAL = ("RTX 3050", "RTX 4090", "L4", "A100")


def estimates(
    layers: str, capabilities: Sequence[str], shape: tuple[int, int]
) -> EstimateFields | None:
    """Milliseconds of a run by device, estimated; None where the table has no such device.

    Args:
        layers: of the engine (`qdeploy.deploy.targets.tensorrt.dump.layers_json`).
        capabilities: compute capabilities that it is for.
        shape: rows and tokens of the run.
    """
    devices = told(capabilities)
    if not devices:
        return None
    work = works(layers, *shape)
    return {
        "note": NOTE,
        "shape": [*shape],
        "estimated_ms": {device.name: round(estimate(work, device).ms, 3) for device in devices},
    }


def told(capabilities: Sequence[str]) -> tuple[Device, ...]:
    """The devices that are told of an engine: of its compute capabilities, and few."""
    found = tuple(device for device in DEVICES if device.capability in capabilities)
    usual = tuple(device for device in DEVICES if device.name in USUAL)
    if len(found) > len(usual):
        found = tuple(device for device in found if device in usual)
    return found
