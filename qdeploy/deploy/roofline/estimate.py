"""An estimate of a compiled engine's time on a device: a roofline of every layer, summed.

A layer takes the longer of its products and its bytes, and its launch (Williams et al. 2009, doi
10.1145/1498765.1498785). Nothing here is measured, and no device is asked: whatever shows these
figures calls them an estimate.

Products are cut into tiles, a tile is done by one SM, and SMs work in waves: 1.1 waves take as long
as 2. Of all tile sizes the fastest counts. A small tile is slower, since it loads more bytes an
operation: tm · tn operations take tm + tn loads.

Peaks are of the boost clock, and a board that products keep busy falls to its base clock: a T4 does
24 of its 65 TFLOPS in long products (forums.developer.nvidia.com/t/264462), and 585 of 1590 MHz are
the same share. So no run is faster than its products at the base clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qdeploy.deploy.roofline.devices import Device
from qdeploy.deploy.roofline.geometry import Product, Work

# Rows and columns of tiles, as kernels of cuBLAS and CUTLASS have them.
TILES = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 32))
_FULL_TILE = 64.0  # tm · tn / (tm + tn) of 128 × 128, from which on loads keep pace


@dataclass(frozen=True)
class Shares:
    """What is reached of a device's figures.

    Attributes:
        gemm: of the peak, by a product whose tiles fill every SM.
        score_cycles: of an SM for each score of attention, beside its products: the softmax.
        memory: of the bandwidth of the memory.
        cache: bandwidth of the L2 cache in that of the memory.
        launch_cycles: of each kernel beyond its work, at the boost clock.
    """

    gemm: float
    score_cycles: float
    memory: float
    cache: float
    launch_cycles: float


# `memory` and `cache` are round figures. The other three are fitted to NVIDIA's demoBERT on one
# device, an A100. The form of the model was chosen after three tries, with the errors of four other
# devices in view, so these are no forecast either: benchmarks/roofline.py, docs/gpu.md.
FITTED = Shares(gemm=0.87, score_cycles=0.66, memory=0.8, cache=3.0, launch_cycles=7300)


@dataclass(frozen=True)
class LayerEstimate:
    """Of one layer, an estimate.

    Attributes:
        name: of the layer.
        us: its time, µs.
        bound: what takes the most of it: "compute", "memory" or "launch".
    """

    name: str
    us: float
    bound: str


@dataclass(frozen=True)
class Estimate:
    """Of an engine on a device, not measured.

    Attributes:
        device: its name.
        layers: those that launch.
        power_ms: of all products at the base clock, which is what the board's power suffices for.
    """

    device: str
    layers: tuple[LayerEstimate, ...]
    power_ms: float

    @property
    def ms(self) -> float:
        """Of a run."""
        return max(sum(layer.us for layer in self.layers) / 1e3, self.power_ms)

    def ms_by_bound(self) -> dict[str, float]:
        """Of the layers that each bound has, ms."""
        found = {"compute": 0.0, "memory": 0.0, "launch": 0.0}
        for layer in self.layers:
            found[layer.bound] += layer.us / 1e3
        return found


def estimate(works: Sequence[Work], device: Device, shares: Shares = FITTED) -> Estimate:
    """The time of a run, estimated.

    Args:
        works: of the engine's layers at the shape of the run.
        device: that it would run on.
        shares: what is reached of the device's figures.
    """
    resident = sum(work.constant for work in works) <= device.l2 * 1e6 / 2
    layers = []
    for work in works:
        parts = {
            "compute": compute_us(work, device, shares),
            "memory": memory_us(work, device, shares, resident=resident),
            "launch": shares.launch_cycles / device.clocks[1],
        }
        us = max(parts["compute"], parts["memory"]) + parts["launch"]
        layers.append(LayerEstimate(work.name, us, max(parts, key=parts.__getitem__)))
    return Estimate(device.name, tuple(layers), _power_ms(works, device))


def compute_us(work: Work, device: Device, shares: Shares) -> float:
    """Of a layer's products, µs."""
    if not work.products:
        return 0.0
    peak = peak_of(device, work.precision) * 1e6  # operations in 1 µs
    if work.kind == "attention":
        first = work.products[0]
        scores = first.count * first.m * first.n / device.sms * shares.score_cycles
        return work.flops / (peak * shares.gemm) + scores / device.clocks[1]
    return sum(_tiled_us(product, device.sms, peak * shares.gemm) for product in work.products)


def memory_us(work: Work, device: Device, shares: Shares, *, resident: bool) -> float:
    """Of a layer's bytes, µs.

    Args:
        resident: all weights of the engine stay in the L2 cache from run to run.
    """
    memory = device.bandwidth * 1e3 * shares.memory  # bytes in 1 µs
    fits = work.moved <= device.l2 * 1e6 / 2
    moved = work.moved / (memory * (shares.cache if fits else 1.0))
    return moved + work.constant / (memory * (shares.cache if resident else 1.0))


def peak_of(device: Device, precision: str) -> float:
    """10¹² dense operations a second; of a type that a device lacks that of the next wider one."""
    if precision == "int8":
        return device.int8
    if precision == "fp8" and device.fp8 is not None:
        return device.fp8
    # FP32 as TF32, which takes twice as long as FP16
    return device.fp16 / 2 if precision == "fp32" else device.fp16


def _power_ms(works: Sequence[Work], device: Device) -> float:
    base, boost = device.clocks
    return sum(w.flops / peak_of(device, w.precision) for w in works) / 1e9 * boost / base


def _tiled_us(product: Product, sms: int, peak: float) -> float:
    """In waves of tiles over the SMs, with the fastest tile."""
    best = math.inf
    for rows, columns in TILES:
        tiles = product.count * -(-product.m // rows) * -(-product.n // columns)
        reached = min(1.0, rows * columns / (rows + columns) / _FULL_TILE)
        waves = -(-tiles // sms)
        best = min(best, waves * 2 * rows * columns * product.k / (peak / sms * reached))
    return best
