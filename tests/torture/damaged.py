"""Engines and models with one thing wrong: bytes, fields, files of others, files that are gone."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.torture.ground import (
    CLEAR,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    Worker,
    close_to,
    detail,
    replied,
)

MANIFEST = "qdeploy.json"
_WRONG: list[Any] = [None, [], {}, "", "x", -1, 0.5, 1e308, True, [None], {"a": 1}, "../x", 2**70]


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` damaged directories; each is loaded, and now and then inspected, judged or built."""
    worker = Worker(ground)
    expected = {name: worker.call("answers", ground.home / name)["value"] for name in ("engine",)}
    expected["built"] = worker.call("build", ground.home / "model", ground.home / "fresh")["value"]
    for number in range(count):
        kind = "model" if number % 5 == 0 else "engine"
        with ground.folder() as folder:
            directory = Path(shutil.copytree(ground.home / kind, folder / kind))
            what = damage(directory, ground.home / ("model2" if kind == "model" else "other"), rng)
            if kind == "model":
                reply = worker.call("build", directory, folder / "out")
                _judge(tally, what, reply, expected["built"], folder)
                if (folder / "out").exists() and "value" not in reply:
                    tally.add(WRONG, what, "an engine stands there though the build failed")
                continue
            _judge(tally, what, worker.call("answers", directory), expected["engine"], folder)
            if number % 4 == 1:
                other = rng.choice(("inspect", "evaluate"))
                tally.add(*_plain(worker.call(other, directory), f"{what}, {other}"))
    worker.close()


def _judge(tally: Tally, what: str, reply: dict[str, Any], expected: Any, folder: Path) -> None:
    verdict = replied(reply)
    if verdict == WORKED and not close_to(reply["value"], expected, names=False):
        verdict = WRONG
    if verdict == CLEAR and str(folder) not in reply["text"] and ".json" not in reply["text"]:
        verdict = UNEXPECTED  # it does not say what is at fault
    tally.add(verdict, what, detail(reply))


def _plain(reply: dict[str, Any], what: str) -> tuple[str, str, str]:
    return replied(reply), what, detail(reply)


def damage(directory: Path, other: Path, rng: random.Random) -> str:
    """Damage one file of a directory; what was done."""
    path = rng.choice([p for p in sorted(directory.iterdir()) if p.is_file()])
    how = rng.choice(("bytes", "cut", "gone", "swap", "json", "json", "json"))
    if how == "json" and path.suffix == ".json":
        how = _damage_json(path, rng)
        if path.name != MANIFEST and rng.random() < 0.6:
            _sign(path)
            how += ", signed"
    elif how == "gone":
        path.unlink()
    elif how == "swap" and (other / path.name).is_file() and path.name != MANIFEST:
        shutil.copyfile(other / path.name, path)
    elif how == "cut":
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        changed = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 8, 64))):
            changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        path.write_bytes(changed)
        how = "bytes"
    return f"{path.name}: {how}"


def _damage_json(path: Path, rng: random.Random) -> str:
    text = path.read_text("utf-8")
    how = rng.choice(("drop", "value", "value", "nan", "deep", "whole", "unknown"))
    if how == "deep":
        path.write_text("[" * 100_000)
        return how
    if how == "whole":
        path.write_text(json.dumps(rng.choice(_WRONG)))
        return how
    value = json.loads(text)
    if how == "unknown":
        value["a field of a later version"] = rng.choice(_WRONG)
        path.write_text(json.dumps(value))
        return how
    place = rng.choice(list(_places(value)))
    at = value
    for key in place[:-1]:
        at = at[key]
    if how == "drop":
        del at[place[-1]]
    else:
        at[place[-1]] = float("nan") if how == "nan" else rng.choice(_WRONG)
    path.write_text(json.dumps(value))
    return f"{how} {'.'.join(map(str, place))}"


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 20)):
            yield from _places(value[key], (*place, key))


def _sign(path: Path) -> None:
    """Put the file's new hash into the manifest, as whoever made the directory would."""
    manifest = json.loads((path.parent / MANIFEST).read_text("utf-8"))
    content = path.read_bytes()
    manifest["files"][path.name] = hashlib.sha256(content).hexdigest()
    if "sizes" in manifest:
        manifest["sizes"][path.name] = len(content)
    (path.parent / MANIFEST).write_text(json.dumps(manifest))
