"""Which form the treatment of a GEMM's input takes on a GPU, by what each is expected to cost.

An input whose noise is above the target can be treated by factors per channel in front of one
scale, or by groups and outlier channels with products of their own. Both reach the noise target on
most sites; which is cheaper is estimated by a roofline: kernels times their launch, bytes times
bandwidth, multiplications times peak (Williams et al. 2009, doi 10.1145/1498765.1498785). Where a
GPU is at hand the measured time takes over (`qdeploy.autotune.treatment`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qdeploy.calibrate.plan import Float, Grouped, PerTensor, Plan, SitePlan, Treatment
from qdeploy.deploy.lowering.groups import GemmConstraints, grouped_gemm, padded
from qdeploy.deploy.roofline.devices import device_named
from qdeploy.graph.structure import Gemm, Structure
from qdeploy.schemas.autotune import Forms


@dataclass(frozen=True)
class Gpu:
    """What a GPU does in a microsecond.

    Attributes:
        name: of the device, for reports.
        launch_us: time of one more kernel within a CUDA graph.
        bytes_us: bytes of memory read or written.
        int8_us, half_us: additions and multiplications of dense products.
    """

    name: str
    launch_us: float
    bytes_us: float
    int8_us: float
    half_us: float


_L4 = device_named("L4")
# Figures of its data sheet; the launch is a round figure.
L4 = Gpu(f"NVIDIA {_L4.name}", 2.0, _L4.bandwidth * 1e3, _L4.int8 * 1e6, _L4.fp16 * 1e6)


@dataclass(frozen=True)
class Costs:
    """What the forms need on a target, beyond one plain INT8 product.

    Attributes:
        cuts: in which pieces it multiplies.
        factor_kernels: kernels that multiply by the factors, where the rounding does not.
        factor_bytes: read and written by them, per element of the input.
        product_kernels: kernels of each further product: its rounding, itself, its sum.
        product_bytes: read and written by them, per element of the output.
    """

    cuts: GemmConstraints
    factor_kernels: int
    factor_bytes: int
    product_kernels: int
    product_bytes: int


def extra_us(
    treatment: Treatment,
    gemms: Sequence[Gemm],
    shape: tuple[int, int],
    costs: Costs,
    gpu: Gpu = L4,
) -> float:
    """Microseconds of a treatment beyond plain INT8 products.

    Args:
        treatment: of an input [B, S, C].
        gemms: its readers.
        shape: rows B and tokens S of a run.
        costs: of the target.
        gpu: of the estimate.
    """
    if isinstance(treatment, PerTensor) and treatment.pre_quant_scale:
        # Factors are whole passes over the input, and none where the rounding takes them in.
        elements = shape[0] * shape[1] * len(treatment.pre_quant_scale)
        moved = elements * costs.factor_bytes / gpu.bytes_us
        return costs.factor_kernels * gpu.launch_us + moved
    if not isinstance(treatment, Grouped):
        return 0.0
    # Groups: rows of each product, padded as the target multiplies them.
    parts = grouped_gemm(treatment, costs.cuts)
    slim = [len(padded(channels, 1, costs.cuts.multiple)[0]) for channels, _ in parts.slim]
    wide = 0 if parts.wide is None else len(parts.wide_rows())
    if parts.split is not None:
        wide = len(parts.split.source)
    outliers = 0
    if parts.outliers:
        outliers = len(padded(parts.outliers, 1, costs.cuts.float_multiple)[0])
    # One product is there in any case: the wide one, or else the first of the slim ones.
    further = len(slim) + bool(outliers) - (0 if wide else 1)
    total = 0.0
    if parts.split is not None and parts.split.is_split:  # its gather keeps kernels apart
        total += gpu.launch_us + 2 * shape[0] * shape[1] * (wide - parts.total) / gpu.bytes_us
    if parts.repeated:  # each is picked and rounded, and all are joined, int8 read and written
        total += (2 * len(parts.repeated) + 1) * gpu.launch_us
        total += 2 * shape[0] * shape[1] * wide / gpu.bytes_us
    for gemm in gemms:
        outputs = shape[0] * (shape[1] if gemm.rows > 1 else 1) * gemm.n
        total += further * costs.product_kernels * gpu.launch_us
        total += further * outputs * costs.product_bytes / gpu.bytes_us
        # Rows of zeros are multiplied too: all rows beyond those of the plain product.
        more = wide + sum(slim) - parts.total
        total += 2 * outputs * (more / gpu.int8_us + outliers / gpu.half_us)
    return total


def cheapest(
    factors: Plan,
    groups: Plan,
    structure: Structure,
    shape: tuple[int, int],
    costs: Costs,
) -> tuple[Plan, Forms]:
    """Of two plans, the cheaper form of each site among those that reach the noise target.

    Args:
        factors: with factors wherever they suffice.
        groups: with none.
        structure: of the graph of both.
        shape: rows and tokens of the runs that the engine is tuned for.
        costs: of the target.

    Returns:
        The plan, and {"gpu", "estimated_us": {"factors", "groups", "kept"}} of its sites: time
        beyond plain INT8 products.
    """
    target = factors.options["noise_target"]
    assert isinstance(target, int | float)  # an option of the strategy, and checked
    kept, totals = {}, {"factors": 0.0, "groups": 0.0, "kept": 0.0}
    for tensor, one in factors.sites.items():
        other = groups.sites[tensor]
        readers = structure.consumers(tensor)
        times = {
            name: extra_us(site.treatment, readers, shape, costs)
            for name, site in (("factors", one), ("groups", other))
        }
        # Where factors do not suffice both plans have groups, and there is nothing to choose.
        name = "factors"
        if one.treatment != other.treatment:
            name = _better({"factors": one, "groups": other}, times, target)
            kept[tensor] = _explained({"factors": one, "groups": other}[name], times, name)
        for key, us in (*times.items(), ("kept", times[name])):
            totals[key] += us
    found: Forms = {
        "gpu": L4.name,
        "estimated_us": {key: round(us, 1) for key, us in totals.items()},
    }
    return replace(factors, sites=factors.sites | kept), found


def _better(sites: dict[str, SitePlan], times: dict[str, float], target: float) -> str:
    """The cheaper of those that reach the noise target; the one with less noise where none does."""
    noise = {name: _level(site) for name, site in sites.items()}
    reaching = [name for name in sites if noise[name] >= target]
    if reaching:
        return min(reaching, key=lambda name: (times[name], -noise[name]))
    return max(sites, key=noise.__getitem__)


def _level(site: SitePlan) -> float:
    """Expected decibels; a tensor in float has no noise."""
    if isinstance(site.treatment, Float) or site.sqnr_db is None:
        return float("inf")
    return site.sqnr_db


def _explained(site: SitePlan, times: dict[str, float], name: str) -> SitePlan:
    other = "groups" if name == "factors" else "factors"
    text = f"{site.reason}; estimated {times[name]:.1f} µs, {other} {times[other]:.1f} µs"
    return replace(site, reason=text)
