"""Files of rows with something wrong, and right ones that look odd."""

from __future__ import annotations

import json
import random
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
    detail,
    told,
)

_LABELS = ("entailment", "not_entailment")


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` files, each for `eval` or `calibrate`."""
    worker = Worker(ground)
    for number in range(count):
        with ground.folder() as folder:
            path, rows, what = _file(folder, rng)
            report = folder / "report.json"
            arguments: tuple[Any, ...] = (
                *("eval", ground.home / "engine", "--data", path, "--no-latency", "-q"),
                *("--json", report),
            )
            if number % 4 == 3:
                arguments = (
                    *("build", ground.home / "model", folder / "out", "--data", path),
                    *("--strategy", "w8a8", "--calibration-rows", "4", "-q"),
                )
            reply = worker.call("cli", *arguments)
            if "value" not in reply:
                tally.add(UNEXPECTED, what, detail(reply))
                continue
            said = reply["value"]
            verdict, text = told(said["code"], said["err"]), said["err"][-300:]
            if verdict == CLEAR and path.name not in said["err"]:
                verdict = UNEXPECTED
            if verdict == WORKED and rows is not None and report.exists():
                read = json.loads(report.read_text())["data"]["n"]
                if read != rows:
                    verdict, text = WRONG, f"{read} rows were read of {rows}"
            if verdict == WORKED and rows == 0:
                verdict, text = WRONG, "rows were read where there are none"
            tally.add(verdict, what, text)
    worker.close()


def _file(folder: Path, rng: random.Random) -> tuple[Path, int | None, str]:
    """A file, how many rows it has (None: not known), and what is wrong with it."""
    form = rng.choice(("tsv", "csv", "jsonl"))
    second = "king {}" if form == "tsv" else 'the king {}, "long"'
    rows = [
        (f"who is {i}", second.format(i), rng.choice(_LABELS)) for i in range(rng.randrange(1, 12))
    ]
    path = folder / f"rows.{form}"
    content = _text(form, rows).encode()
    how = rng.choice(
        (
            *("whole", "bom", "crlf", "bytes", "cut", "empty", "header", "nul", "utf-16", "column"),
            *("label", "blank", "deep", "twice", "long", "field", "parquet", "folder", "surrogate"),
        )
    )
    known: int | None = len(rows) if how in ("whole", "bom", "crlf", "long") else None
    if how == "bom":
        content = b"\xef\xbb\xbf" + content
    elif how == "crlf":
        content = content.replace(b"\n", b"\r\n")
    elif how == "bytes":
        damaged = bytearray(content)
        for _ in range(4):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        content = bytes(damaged)
    elif how == "cut":
        content = content[: rng.randrange(len(content))]
    elif how == "empty":
        content, known = b"", 0
    elif how == "header":
        content, known = content[: content.index(b"\n") + 1] if form != "jsonl" else b"", 0
    elif how == "nul":
        content = content.replace(b"king", b"ki\0ng", 1)
    elif how == "utf-16":
        content = content.decode().encode("utf-16")
    elif how == "column":
        content = content.replace(b"question", b"premise")
    elif how == "label":
        content = content.replace(b"not_entailment", b"9" * 5000).replace(b"entailment", b"maybe")
    elif how == "blank":
        content = content.replace(b"who is 0", b"")
    elif how == "deep":
        content += b'{"question": ' + b"[" * 100_000
    elif how == "twice":
        content = content.replace(b"sentence", b"question")
    elif how in ("long", "field"):
        long = "river " * rng.choice((50_000, 100))
        content = _text(form, [(long, b, c) for _, b, c in rows]).encode()
    elif how == "parquet":
        path = folder / "rows.parquet"
        content = b"PAR1" + content
    elif how == "folder":
        path.mkdir()
        return path, None, f"{form}: {how}"
    elif how == "surrogate":
        content = content.replace(b"king", b"\xed\xa0\x80king", 1)
    path.write_bytes(content)
    return path, known, f"{form}: {how}"


def _text(form: str, rows: list[tuple[str, str, str]]) -> str:
    names = ("question", "sentence", "label")
    if form == "jsonl":
        return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    if form == "csv":
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
        return "\n".join([",".join(names), *quoted]) + "\n"
    return "\n".join("\t".join(row) for row in [names, *rows]) + "\n"
