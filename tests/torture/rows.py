"""Files of rows with something wrong, and right ones that look odd."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.data.test_malformed import MAKERS, MUTATIONS, made, reference
from tests.torture import shown, whole
from tests.torture.calls import Worker, detail
from tests.torture.ground import (
    CLEAR,
    HUNG,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    told,
)

_LABELS = ("entailment", "not_entailment")
_LIMIT_S = 60.0


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` files, each for `eval` or `calibrate`."""
    suffixes = [suffix for suffix in MAKERS if suffix != ".parquet" or _parquet(tally)]
    shutil.copytree(ground.home / "model", ground.home / "calibrated", dirs_exist_ok=True)
    worker = Worker(ground)
    worker.call("build", ground.home / "model", ground.home / "fp32", "fp32")
    for number in range(count):
        with ground.folder() as folder:
            path = folder / f"rows{suffixes[number % len(suffixes)]}"
            what = _write(path, rng, number)
            plain = folder / "plain.jsonl"
            expected = _plainly(path, plain)
            ask = _calibrated if number % 3 else _evaluated
            verdict, why = _one(ask, ground, worker, path, plain if expected else None)
            if verdict == CLEAR and what == "nothing":
                verdict = UNEXPECTED
            tally.add(verdict, f"{ask.__name__[1:]} on {path.suffix}, {what}", why)
    worker.close()


def _parquet(tally: Tally) -> bool:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        tally.skip("Parquet: pyarrow is not installed")
        return False
    return True


def _write(path: Path, rng: random.Random, number: int) -> str:
    """A file that went through some damage; which."""
    rows = [(first, second, rng.choice(_LABELS)) for first, second, _ in made(rng)]
    raw = MAKERS[path.suffix](rows)
    chosen = [number // len(MAKERS) % len(MUTATIONS)]
    if rng.random() < 0.3:
        chosen.append(rng.randrange(len(MUTATIONS)))
    whole_file = raw
    for at in chosen:
        raw = MUTATIONS[at](rng, raw) if raw else raw
    path.write_bytes(raw)
    return f"damage {' and '.join(map(str, chosen))}" if raw != whole_file else "nothing"


def _plainly(path: Path, plain: Path) -> bool:
    """Write what a plain reader reads as a file with nothing odd in it; False: nothing to read."""
    texts = reference(path)
    if texts is None:
        return False
    lines = [{"question": first, "sentence": second} for first, second in texts]
    plain.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return True


def _one(
    ask: Any, ground: Ground, worker: Worker, path: Path, plain: Path | None
) -> tuple[str, str]:
    """The verdict: both files are the same rows, or the odd one is refused by its name."""
    reply, found = ask(ground, worker, path)
    if "value" not in reply:
        return (HUNG if "hung" in reply else UNEXPECTED), detail(reply)
    said = reply["value"]
    verdict = told(said["code"], said["err"], path.name)
    if verdict == CLEAR and (why := shown.fault(said["err"], path.name)):
        return UNEXPECTED, why
    if verdict != WORKED:
        return verdict, said["err"][-300:]
    if plain is None:
        return WRONG, f"rows are read that no plain reader finds: {found}"
    expected = ask(ground, worker, plain)[1]
    if found is None or found != expected:
        return WRONG, f"{found} in place of {expected}"
    return WORKED, ""


def _evaluated(ground: Ground, worker: Worker, path: Path) -> tuple[dict[str, Any], Any]:
    """`eval` against another engine: rows, their lengths, and how often both agree."""
    report = path.parent / f"{path.stem}.json"
    arguments = ("--data", path, "--baseline", ground.home / "fp32", "--no-latency", "-q")
    reply = worker.call(
        "cli", "eval", ground.home / "engine", *arguments, "--json", report, limit=_LIMIT_S
    )
    value = whole.read_json(report)
    if not value:
        return reply, None
    baseline = value.get("baseline") or {}
    figures = [baseline.get(name) for name in ("agreement", "sqnr_db", "max_abs_diff")]
    return reply, [value["data"]["n"], value["data"]["lengths"], *figures]


def _calibrated(ground: Ground, worker: Worker, path: Path) -> tuple[dict[str, Any], Any]:
    """`calibrate`: the name of the statistics is a hash of all texts and their order."""
    model, report = ground.home / "calibrated", path.parent / f"{path.stem}.json"
    shutil.rmtree(model / "statistics", ignore_errors=True)
    arguments = ("--data", path, "--calibration-rows", "100000", "-q", "--json", report)
    reply = worker.call("cli", "calibrate", model, *arguments, limit=_LIMIT_S)
    value = whole.read_json(report)
    return reply, Path(value["statistics"]).name if value else None
