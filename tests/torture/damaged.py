"""Engines and models with one thing wrong: bytes, fields, files of others, files that are gone."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.torture import whole
from tests.torture.calls import Worker, detail, replied
from tests.torture.ground import CLEAR, UNEXPECTED, WORKED, WRONG, Ground, Tally, close_to

_VALUES: list[Any] = [
    *(None, [], {}, "", "x", -1, 0.5, 1e308, True, [None], {"a": 1}, "../x", 2**70, "\ud800"),
    *(["a", "a"], "a" * 10_000),
]
_HOW = ("bytes", "cut", "gone", "swap", "empty", "json", "json", "json")


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` damaged directories; each is loaded, and some inspected, judged or built."""
    worker = Worker(ground)
    usual = {name: worker.call(name, ground.home / "engine")["value"] for name in _CALLS}
    model = ground.home / "model"
    usual["build"] = worker.call("build", model, ground.home / "fresh")["value"]
    for number in range(count):
        kind = "model" if number % 4 == 0 else "engine"
        call = "build" if kind == "model" else _CALLS[(number // 2) % len(_CALLS)]
        with ground.folder() as folder:
            directory = Path(shutil.copytree(ground.home / kind, folder / kind))
            other = ground.home / ("model2" if kind == "model" else "other")
            what, told = damage(directory, other, rng)
            more = (folder / "out",) if call == "build" else ()
            reply = worker.call(call, directory, *more)
            verdict = judged(call, reply, usual[call], directory, told)
            if verdict == WRONG and told and what.startswith("tokenizer"):
                verdict = WORKED  # a vocabulary without a word, signed, is another tokenizer
            if (folder / "out").exists() and "value" not in reply:
                verdict, reply["text"] = WRONG, "an engine stands there though the build failed"
            tally.add(verdict, f"{call} of a {kind}, {what}", detail(reply))
    worker.close()


_CALLS = ("answers", "inspect", "answers", "evaluate")


def judged(call: str, reply: dict[str, Any], usual: Any, directory: Path, told: bool) -> str:
    """The verdict of a call.

    Args:
        usual: the answer of the directory before.
        told: whoever damaged the file told so in the manifest, or it is the manifest: what it says
            of itself may have changed, the answers of the graph may not.
    """
    verdict = replied(reply)
    if verdict == CLEAR:
        # It says what is at fault: the directory, or a file in it.
        named = [str(directory), *(path.name for path in directory.rglob("*") if path.is_file())]
        return CLEAR if any(name in reply["text"] for name in named) else UNEXPECTED
    if verdict != WORKED:
        return verdict
    value = reply["value"]
    if call in ("answers", "build"):
        return WORKED if close_to(value, usual, names=not told) else WRONG
    if call == "evaluate":
        value, usual = (value, usual) if not told else (value[0], usual[0])
    return WORKED if (told and call == "inspect") or value == usual else WRONG


def damage(directory: Path, other: Path, rng: random.Random) -> tuple[str, bool]:
    """Damage one file of a directory; what was done, and whether the manifest tells so."""
    path = rng.choice([p for p in sorted(directory.rglob("*")) if p.is_file()])
    how, told = rng.choice(_HOW), path.name == whole.MANIFEST
    if how == "json" and path.suffix == ".json":
        how = _damage_json(path, rng)
        if path.name != whole.MANIFEST and rng.random() < 0.6:
            whole.sign(path)
            how, told = f"{how}, signed", True
    elif how == "json":
        how = _damage_bytes(path, rng)
    elif how == "gone":
        path.unlink()
    elif how == "swap" and (other / path.name).is_file() and path.name != whole.MANIFEST:
        shutil.copyfile(other / path.name, path)
    elif how == "swap" and (found := list(other.rglob(f"*{path.suffix}"))) and not told:
        shutil.copyfile(found[0], path)  # statistics of another model under this one's key
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        how = _damage_bytes(path, rng)
    return f"{path.name}: {how}", told


def _damage_bytes(path: Path, rng: random.Random) -> str:
    changed = bytearray(path.read_bytes())
    if rng.random() < 0.3:  # a block, as of a disk
        at = rng.randrange(len(changed))
        block = bytes(min(64, len(changed) - at))
        if changed[at : at + 64] != block:
            changed[at : at + 64] = block
            path.write_bytes(changed)
            return "64 bytes zeroed"
    places = rng.sample(range(len(changed)), min(rng.choice((1, 8, 64)), len(changed)))
    for place in places:
        changed[place] ^= rng.randrange(1, 256)
    path.write_bytes(changed)
    return f"{len(places)} bytes"


def _damage_json(path: Path, rng: random.Random) -> str:
    text = path.read_text("utf-8")
    how = rng.choice(("drop", "value", "value", "nan", "huge", "deep", "whole", "unknown", "copy"))
    if how == "deep":
        path.write_text("[" * 100_000)
        return how
    if how == "whole":
        path.write_text(json.dumps(rng.choice(_VALUES)))
        return how
    value = json.loads(text)
    if how == "unknown":
        value["a field of a later version"] = rng.choice(_VALUES)
        path.write_text(json.dumps(value))
        return how
    place = rng.choice(list(_places(value)))
    at = value
    for key in place[:-1]:
        at = at[key]
    if how == "drop":
        del at[place[-1]]
    elif how in ("nan", "huge"):
        at[place[-1]] = float("nan" if how == "nan" else "inf")
    elif how == "copy":  # a value of another field
        at[place[-1]] = rng.choice([_at(value, place) for place in _places(value)])
    else:
        at[place[-1]] = rng.choice(_VALUES)
    path.write_text(json.dumps(value))
    if path.read_text("utf-8") == text:
        path.write_text("{}")
    return f"{how} {'.'.join(map(str, place))}"


def _at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return json.loads(json.dumps(value))  # a copy: a value may not hold itself


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if place:
        yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 20)):
            yield from _places(value[key], (*place, key))
