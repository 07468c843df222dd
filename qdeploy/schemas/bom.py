"""bom.cdx.json: what of CycloneDX 1.6 an engine's bill of materials uses.

`cyclonedx-python-lib` (11.12) has no model cards, so the document is written here. A test holds it
against that library's copy of the schema.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import NotRequired, TypedDict

Kind = Literal["application", "data", "file", "library", "machine-learning-model"]


class Property(TypedDict):
    """A fact that the standard has no field for."""

    name: str
    value: str


class Hash(TypedDict):
    """Of a file, in hex."""

    alg: Literal["SHA-256"]
    content: str


class License(TypedDict):
    """`id` is of the SPDX list, `name` anything else."""

    id: NotRequired[str]
    name: NotRequired[str]


class LicenseChoice(TypedDict):
    """An entry of a list of licences."""

    license: License


class Interval(TypedDict):
    """95 % confidence."""

    lowerBound: str
    upperBound: str


class Metric(TypedDict):
    """A figure of the build."""

    type: str
    value: str
    slice: NotRequired[str]
    confidenceInterval: NotRequired[Interval]


class Reference(TypedDict):
    """A component elsewhere in the document."""

    ref: str


class Format(TypedDict):
    """Of an input or an output."""

    format: str


class ModelParameters(TypedDict):
    """What the model is."""

    task: str
    architectureFamily: str
    modelArchitecture: NotRequired[str]
    datasets: list[Reference]
    inputs: list[Format]
    outputs: list[Format]


class QuantitativeAnalysis(TypedDict):
    """What was measured."""

    performanceMetrics: list[Metric]


class ModelCard(TypedDict):
    """See the specification's `modelCard`."""

    modelParameters: ModelParameters
    quantitativeAnalysis: QuantitativeAnalysis
    properties: list[Property]


class Contents(TypedDict):
    """Of a data set: no row of it, its facts alone."""

    properties: list[Property]


class DataSet(TypedDict):
    """A set of rows."""

    type: Literal["dataset"]
    name: str
    contents: Contents


Component = TypedDict(
    "Component",
    {
        "type": Kind,
        "bom-ref": str,
        "name": str,
        "version": NotRequired[str],
        "description": NotRequired[str],
        "purl": NotRequired[str],
        "hashes": NotRequired[list[Hash]],
        "licenses": NotRequired[list[LicenseChoice]],
        "modelCard": NotRequired[ModelCard],
        "data": NotRequired[list[DataSet]],
        "components": NotRequired[list["Component"]],
        "properties": NotRequired[list[Property]],
    },
)


class Tools(TypedDict):
    """What wrote the document."""

    components: list[Component]


class Metadata(TypedDict):
    """Of the document: its tools, and what it is about."""

    tools: Tools
    component: Component
    properties: list[Property]


class Dependency(TypedDict):
    """What a component was made of, or with."""

    ref: str
    dependsOn: list[str]


Bom = TypedDict(
    "Bom",
    {
        "$schema": str,
        "bomFormat": Literal["CycloneDX"],
        "specVersion": Literal["1.6"],
        "serialNumber": NotRequired[str],
        "version": int,
        "metadata": Metadata,
        "components": list[Component],
        "dependencies": list[Dependency],
    },
)
