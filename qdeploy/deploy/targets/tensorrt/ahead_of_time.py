"""What TensorRT-RTX has beyond TensorRT: devices that are named, and kernels made when it loads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qdeploy.deploy.targets.tensorrt.api import Library
from qdeploy.errors import TargetError

if TYPE_CHECKING:
    import tensorrt as trt


def aim(library: Library, config: trt.IBuilderConfig, capabilities: Sequence[str]) -> None:
    """Name the devices that a plan is for.

    Raises:
        TargetError: one that this version does not know.
    """
    api = library.package()
    known = api.ComputeCapability
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        device = getattr(known, f"SM{capability.replace('.', '')}", None)
        if device is None or not config.set_compute_capability(device, index):
            raise TargetError(
                f"{library.title} {api.__version__} does not build for compute "
                f"capability {capability}."
            )


class Finished:
    """An engine whose kernels are compiled on this device when a shape first comes.

    Attributes:
        context: that runs it.
    """

    def __init__(self, library: Library, engine: trt.ICudaEngine, kernels: bytes) -> None:
        """Make the context.

        Args:
            kernels: compiled here before; those of another device or version are refused by
                TensorRT-RTX, and made anew.
        """
        api = library.package()
        config: trt.IRuntimeConfig = engine.create_runtime_config()
        strategies = api.DynamicShapesKernelSpecializationStrategy
        # what is timed is the kernel of the shape, not one that stands in while it is compiled
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        cache: trt.IRuntimeCache = config.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)
        config.set_runtime_cache(cache)
        self._cache = cache
        self.context: trt.IExecutionContext = engine.create_execution_context(config)

    def kernels(self) -> bytes:
        """The kernels that were compiled so far."""
        cache: trt.IRuntimeCache = self._cache
        return bytes(cache.serialize())
