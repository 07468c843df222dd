"""The targets, and what each can express."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.errors import TargetError, choose


@dataclass(frozen=True)
class Target:
    """A place where engines run.

    Attributes:
        name: as typed after `--target`.
        activations: default activation scheme.
        description: one line for `doctor` and the docs.
    """

    name: str
    activations: str
    description: str


ORT_CPU = Target(
    name="ort-cpu",
    activations="asymmetric",
    description="ONNX Runtime, CPU provider: uint8 activations, int8 weights",
)
TARGETS: dict[str, Target] = {target.name: target for target in (ORT_CPU,)}


def find_target(name: str) -> Target:
    """The target of a name.

    Raises:
        TargetError: unknown, with the nearest name.
    """
    return TARGETS[choose("target", name, TARGETS, TargetError)]
