"""Ways to damage the files of a directory, one thing at a time."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdeploy.files.artifact import MANIFEST, sha256_file

WRONG: list[Any] = [
    *(None, [], {}, "", "x", "../x", True, [None], {"a": 1}),
    *(-1, 0, 0.5, 1e308, 2**40, 2**70, -(2**70)),
]
KINDS = ("drop", "value", "value", "value", "nan", "huge", "twice", "cut", "deep", "whole", "bytes")


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths_of(value[key], (*path, key))


def changed(text: str, rng: random.Random) -> str:
    """A JSON text with one thing wrong."""
    kind = rng.choice(KINDS)
    if kind == "cut":
        return text[: rng.randrange(len(text))]
    if kind == "deep":
        return rng.choice(("[", '{"a":')) * 100_000
    if kind == "whole":
        return json.dumps(rng.choice(WRONG))
    if kind == "bytes":
        at = rng.randrange(len(text))
        return text[:at] + rng.choice('\0\ud800\ufeff{}[],:"0') + text[at + 1 :]
    value = json.loads(text)
    paths = list(paths_of(value))
    top = [path for path in paths if len(path) == 1]
    path = rng.choice(top if rng.random() < 0.5 else paths)  # few of all are at the top
    at = value
    for key in path[:-1]:
        at = at[key]
    last = path[-1]
    if kind == "drop":
        del at[last]
    elif kind == "twice" and isinstance(at[last], list) and at[last]:
        at[last].append(rng.choice(at[last]))
    elif kind == "huge":
        return json.dumps(value).replace(json.dumps(at[last]), "1" + 400 * "0", 1)
    else:
        at[last] = float(rng.choice(("nan", "inf"))) if kind == "nan" else rng.choice(WRONG)
    return json.dumps(value)


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Bytes of which one, or some, are others."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 64))):
        damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
    return bytes(damaged)


def mutate(directory: Path, rng: random.Random, *, signed: bool = False) -> str:
    """Damage one file of a directory; its path in there.

    Args:
        signed: the file is not the manifest, and the manifest lists it as it is then: as somebody
            would do it who means it, and whom nothing but the schemas is left to stop.
    """
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    if signed:
        files = [p for p in files if p.suffix == ".json" and p.name != MANIFEST]
    path = rng.choice(files)
    if path.suffix == ".json" and (signed or rng.random() < 0.8):
        text = changed(path.read_text("utf-8"), rng)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    elif rng.random() < 0.2:
        path.unlink()
    else:
        path.write_bytes(flipped(path.read_bytes(), rng))
    name = path.relative_to(directory).as_posix()
    if signed:
        manifest = json.loads((directory / MANIFEST).read_text())
        manifest["files"][name] = sha256_file(path)
        manifest["sizes"][name] = path.stat().st_size
        (directory / MANIFEST).write_text(json.dumps(manifest))
    return name
