"""What GPUs can do at most, by NVIDIA's own figures: the one table of devices.

Peaks are of dense products on tensor cores, at the boost clock. Those of FP16 and FP8 sum in FP32:
GeForce cards do that at half the rate of sums in FP16, cards for data centres at the full one.
Where no sheet has a card's peak, it is SMs × rate of an SM × boost clock, as the white papers
compute it.

The documents that `source` names are where NVIDIA publishes the figures; they were not at hand when
these were entered. A test holds peaks, SMs and clocks against each other. Clocks and caches of RTX
3050, A10, A30 and L4 were compared with public listings. Those disagree on the L2 of the L40S (48
or 96 MB) and of the RTX 3050 (1.5 or 2 MB).
"""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.errors import TargetError

_AMPERE = "white paper NVIDIA Ampere GA102 GPU Architecture: 1,024 INT8 and 256 FP16 FMA an SM"
_TABLE = "L2 as cudaDeviceProp has it"


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: as NVIDIA sells it.
        capability: compute capability.
        sms: streaming multiprocessors.
        int8: 10¹² operations a second, dense.
        fp16: 10¹² operations a second, dense, summed in FP32.
        fp8: the same of FP8; None where it has none.
        bandwidth: of its memory, 10⁹ bytes a second.
        l2: bytes of its L2 cache, 10⁶.
        clocks: base and boost, MHz.
        source: where NVIDIA publishes the figures.
    """

    name: str
    capability: str
    sms: int
    int8: float
    fp16: float
    fp8: float | None
    bandwidth: float
    l2: float
    clocks: tuple[int, int]
    source: str


DEVICES = tuple(
    Device(*figures)
    for figures in (
        (
            *("RTX 3050", "8.6", 20, 72.8, 18.2, None, 224, 2, (1552, 1777)),
            f"product page of the GeForce RTX 3050 8 GB (2,560 cores, 1.78 GHz, 128 bit at 14 Gb/s)"
            f"; peaks: {_AMPERE}; {_TABLE}",
        ),
        (
            *("RTX 3060", "8.6", 28, 101.9, 25.5, None, 360, 3, (1320, 1777)),
            f"product page of the GeForce RTX 3060 12 GB (3,584 cores, 1.78 GHz, 192 bit at 15 "
            f"Gb/s); peaks: {_AMPERE}; {_TABLE}",
        ),
        (
            *("RTX 4090", "8.9", 128, 660.6, 165.2, 330.3, 1008, 72, (2235, 2520)),
            "white paper NVIDIA Ada GPU Architecture, table of the GeForce RTX 4090",
        ),
        (
            *("L4", "8.9", 58, 242, 121, 242, 300, 48, (795, 2040)),
            "data sheet NVIDIA L4 Tensor Core GPU (its peaks are sparse: halved here); clocks: "
            "product brief L4",
        ),
        (
            *("L40S", "8.9", 142, 733, 362, 733, 864, 96, (1110, 2520)),
            "data sheet NVIDIA L40S; clocks: product brief L40S; L2: white paper Ada, AD102",
        ),
        (
            *("A10", "8.6", 72, 250, 125, None, 600, 6, (885, 1695)),
            "data sheet NVIDIA A10 Tensor Core GPU; clocks: product brief A10; L2: white paper "
            "Ampere GA102",
        ),
        (
            *("A30", "8.0", 56, 330, 165, None, 933, 24, (930, 1440)),
            f"data sheet NVIDIA A30 Tensor Core GPU; clocks: product brief A30; {_TABLE}",
        ),
        (
            *("A100", "8.0", 108, 624, 312, None, 1555, 40, (1095, 1410)),
            "data sheet NVIDIA A100 Tensor Core GPU, 40 GB SXM; L2: white paper NVIDIA A100 Tensor "
            "Core GPU Architecture",
        ),
        (
            *("H100", "9.0", 132, 1979, 989.5, 1979, 3350, 50, (1590, 1830)),
            "data sheet NVIDIA H100 Tensor Core GPU, SXM (its peaks are sparse: halved here); L2: "
            "white paper NVIDIA H100 Tensor Core GPU Architecture",
        ),
        (
            *("T4", "7.5", 40, 130, 65, None, 320, 4, (585, 1590)),
            "data sheet NVIDIA T4; clocks: product brief T4; L2: white paper NVIDIA Turing GPU "
            "Architecture, TU104",
        ),
    )
)


def device_named(name: str) -> Device:
    """A device of the table.

    Raises:
        TargetError: it is not in it.
    """
    for device in DEVICES:
        if device.name == name:
            return device
    names = ", ".join(device.name for device in DEVICES)
    raise TargetError(f"There are no figures of {name!r}; there are of {names}.")
