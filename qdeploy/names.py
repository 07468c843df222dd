"""Names of sites, GEMMs and nodes: the layer that they tell, and a short form for every screen.

The short form is made of the long name alone, so that an analysis, an engine of any age, a warning
and an ONNX file call one place the same. It keeps what tells two places apart and drops the rest:
the checkpoint's prefix, and words that every name of a family has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# `layer.3.`, `/layers.0/`, `h.2.`; else the first number between two separators
_LAYER = re.compile(r"(?:layers?|blocks?|h)[._/](\d+)[./]")
_NUMBER = re.compile(r"[./](\d+)[./]")
_BEFORE = re.compile(r"[^./]+$")
_PREFIX = re.compile(r"^\w+\.(?=embeddings|encoder\.|pooler|final_norm)")  # `bert.`, `model.`
_FFN = re.compile(r"^(?=(?:intermediate|output)\.)")  # of BERT's layers, which do not say so
# Word → its short form, from the first to the last.
_WORDS = (
    (re.compile(r"(?<![^./])attentions?(?![^./])"), "attn"),
    (re.compile(r"(?<![^./])attn[./]attn(?![^./])"), "attn"),  # of MPNet
    (re.compile(r"(?<![^./])attn[./]self(?![^./])"), "attn"),
    (re.compile(r"(?<![^./])ffns(?![^./])"), "ffn"),
    (re.compile(r"(?<![^./])LayerNorm(?![^./])"), "norm"),
    (re.compile(r"(?<![^./])(intermediate|output|pooler)\.dense(?![^./])"), r"\1"),
)


def eight_bits(strategy: str) -> str:
    """What the quantized GEMMs of a strategy multiply.

    >>> eight_bits("fp8"), eight_bits("peg")
    ('FP8', 'INT8')
    """
    return "FP8" if strategy == "fp8" else "INT8"


def place_of(name: str) -> tuple[int | None, str]:
    """The layer that a name tells, and the name within it.

    >>> place_of("bert.encoder.layer.3.output.dense.input")
    (3, 'output.dense.input')
    >>> place_of("/model/layers.0/attn/q/MatMul")
    (0, 'attn/q/MatMul')
    >>> place_of("classifier.input")
    (None, 'classifier.input')
    """
    found = _LAYER.search(name) or _NUMBER.search(name)
    if found is None:
        return None, name
    return int(found[1]), name[found.end() :]


def short_name(name: str) -> str:
    """A name as tables, cards and warnings have it.

    >>> short_name("bert.encoder.layer.3.output.dense.input")
    'L3 ffn.output.input'
    >>> short_name("transformer.layer_norm1.0.input")
    'L0 layer_norm1.input'
    """
    layer, rest = place_of(name)
    if layer is None:
        return _shortened(_PREFIX.sub("", name))
    if not _LAYER.search(name):  # the word in front of the number tells what is counted
        found = _NUMBER.search(name)
        word = _BEFORE.search(name[: found.start()]) if found else None
        rest = f"{word[0]}.{rest}" if word else rest
    return f"L{layer} {_shortened(_FFN.sub('ffn.', rest))}"


def short_list(names: list[str], most: int) -> str:
    """The first names in their short form, and how many more there are.

    >>> short_list(["layer.0.ffn.input", "layer.1.ffn.input", "layer.2.ffn.input"], 2)
    'L0 ffn.input, L1 ffn.input and 1 more'
    """
    return few([short_name(name) for name in names], most)


def few(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first of many, and how many more there are.

    >>> few(["a", "b"], 2), few(["a", "b", "c"], 2), few(["a", "b", "c"], 1, "; ")
    ('a, b', 'a, b and 1 more', 'a; and 2 more')
    """
    shown, more = separator.join(texts[:most]), len(texts) - most
    end = ";" if separator == "; " else ""
    return f"{shown}{end} and {more} more" if more > 0 else shown


def _shortened(name: str) -> str:
    for pattern, word in _WORDS:
        name = pattern.sub(word, name)
    return name
