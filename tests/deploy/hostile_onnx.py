"""ONNX files that nobody means well with, made from a seed; some are legal all the same.

`KINDS` of `tests.torture.hostile` are the well-known ones; here stand more, and the ways around the
rules of `qdeploy.onnx_file.rules`: what is computed, what comes from an attribute, what is only
large.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.hostile_bytes import bomb, damaged, flipped, spliced
from tests.deploy.hostile_nodes import (
    functions,
    loop,
    named,
    nested_loops,
    odd_nodes,
    odd_scales,
    odd_stores,
    odd_types,
    odd_versions,
)
from tests.deploy.hostile_sizes import (
    chain,
    computed_shape,
    diamond,
    doubled,
    input_of,
    large_products,
    made,
)
from tests.deploy.hostile_weights import (
    CANARY,
    linked_device,
    linked_folder,
    loop_of_links,
    many_of_one_range,
    model_is,
    place,
    stored,
)
from tests.deploy.onnx_graphs import Make, made_by
from tests.torture.hostile import KINDS as KNOWN
from tests.torture.hostile import OUTSIDE as READS_OUTSIDE


def hostile_files(folder: Path, seed: int, count: int) -> Iterator[tuple[str, Path]]:
    """`count` files, each in a folder of its own, with a canary outside that one.

    Yields:
        The name of its kind, and where the file stands (or what stands there instead).
    """
    rng = random.Random(seed)
    names = list(KINDS)
    for number in range(count):
        name = names[number % len(names)]
        inside = folder / str(number) / "inside"
        inside.mkdir(parents=True)
        (inside.parent / "canary").write_bytes(CANARY * 50)
        KINDS[name](inside / "model.onnx", inside.parent / "canary", rng)
        yield name, inside / "model.onnx"


# Kinds that no rule may let through.
REFUSED: dict[str, Make] = {
    "weights: ..": place("../canary"),
    "weights: sub/../..": place("sub/../../canary"),
    "weights: absolute": place("{canary}"),
    "weights: ./..": place("./../canary"),
    "weights: backslashes": place("..\\canary"),
    "weights: drive": place("C:/canary"),
    "weights: URL": place("file:///etc/passwd"),
    "weights: empty": place(""),
    "weights: dot": place("."),
    "weights: NUL": place("weights.data\0x"),
    "weights: nowhere": stored([("offset", "0")]),
    "weights: said twice": stored([("location", "weights.data"), ("location", "../canary")]),
    "weights: missing": place("other.data"),
    "weights: long name": place("n" * 300),
    "weights: linked folder": linked_folder,
    "weights: linked device": linked_device,
    "weights: loop of links": loop_of_links,
    "weights: a folder": place("/".join(["."] * 3)),
    "weights: /dev/zero": place("/dev/zero"),
    "weights: /proc": place("/proc/self/environ"),
    "weights: hexadecimal": place("weights.data", offset="0x10"),
    "weights: 1e3": place("weights.data", length="1e3"),
    "weights: negative": place("weights.data", offset="-256"),
    "weights: behind the end": place("weights.data", offset="4"),
    "weights: offset of 2^63": place("weights.data", offset=str(2**63)),
    "weights: length of 2^62": place("weights.data", length=str(2**62)),
    "weights: short": stored([("location", "weights.data")], b"short"),
    "weights: 2,000 of one range": made_by(many_of_one_range),
    "file: FIFO": model_is("fifo"),
    "file: folder": model_is("folder"),
    "file: loop of links": model_is("loop"),
    "file: /dev/zero": model_is("/dev/zero"),
    "file: /proc": model_is("/proc/self/environ"),
    "file: the canary": model_is("{canary}"),
    "bomb": made_by(bomb),
    "function that calls itself": KNOWN["function that calls itself"],
    "endless Loop": KNOWN["endless Loop"],
    "huge constant": KNOWN["huge constant"],
    "huge expand": KNOWN["huge expand"],
    "cycle": KNOWN["cycle"],
    "missing initializer": KNOWN["missing initializer"],
    **{name: KNOWN[name] for name in READS_OUTSIDE},
}

# Kinds of which some are legal, and some are seen only when they run.
EITHER: dict[str, Make] = {
    **{name: make for name, make in KNOWN.items() if name not in REFUSED},
    "a computed shape": made_by(computed_shape),
    "doubled": made_by(doubled),
    "made of constants": made_by(made),
    "large products": made_by(large_products),
    "input of 2^62": input_of(2**62, 4),
    "input of many axes": input_of(*"abcdefghijkl"),
    "input of negative size": input_of(-5, 8),
    "diamond": made_by(diamond),
    "long chain": made_by(chain),
    "damaged": made_by(damaged),
    "endless loop that is computed": made_by(loop),
    "nested loops": made_by(nested_loops),
    "functions": made_by(functions),
    "odd nodes": made_by(odd_nodes),
    "odd scales": made_by(odd_scales),
    "odd versions": made_by(odd_versions),
    "odd types": made_by(odd_types),
    "odd stores": made_by(odd_stores),
    "names": made_by(named),
    "flipped": made_by(flipped),
    "spliced": made_by(spliced),
}

KINDS: dict[str, Make] = REFUSED | EITHER

OUTSIDE = (
    *READS_OUTSIDE,
    *(name for name in REFUSED if name.startswith(("weights:", "file: the"))),
)
