"""Small graphs as ONNX text, which is read as a graph is drawn: `y = MatMul(x, w)`.

A name in brackets before a node is the node's own: `["the first"] y = MatMul(x, w)`. `float[] y`
has an unknown shape; an input that is left out is a space between commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

OPSETS = {"": 20, "com.microsoft": 1, "ai.onnx.ml": 3}


def read_nodes(text: str) -> list[onnx.NodeProto]:
    """The nodes alone, for a graph that is made otherwise."""
    return list(parser.parse_graph(f"g () => () {{ {text} }}").node)


def read_model(
    graph: str, constants: Mapping[str, Any] | None = None, opsets: Mapping[str, int] = OPSETS
) -> onnx.ModelProto:
    """A model of `(inputs) => (outputs) { nodes }`; the values of constants stand in code."""
    imports = ", ".join(f'"{domain}": {version}' for domain, version in opsets.items())
    model = parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> g {graph}")
    for name, array in (constants or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model
