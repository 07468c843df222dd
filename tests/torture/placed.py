"""Outputs: what appears meanwhile, what stands there, several writers, and readers in between."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from pathlib import Path

from tests.torture.ground import (
    CLEAR,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    Worker,
    close_to,
    detail,
    leftovers,
    replied,
    snapshot,
    told,
)


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` runs of each of five kinds."""
    for _ in range(count):
        for kind in (_writers, _appears, _foreign, _stray, _readers):
            with ground.folder() as folder:
                kind(ground, folder, rng, tally)


def _build(ground: Ground, output: Path, *more: str, model: Path | None = None) -> list[str]:
    source = model or ground.home / "model"
    return ground.command("build", source, output, "--strategy", "fp32", "-q", *more)


def _writers(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Of three builds of one output exactly one wins."""
    del rng
    command = _build(ground, folder / "out")
    running = [
        subprocess.Popen(command, **ground.where, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    done = [(p.communicate(timeout=120)[1], p.returncode) for p in running]
    codes = sorted(code for _, code in done)
    if codes != [0, 2, 2]:
        tally.add(LOST, "three writers", f"exit codes {codes}")
    elif left := leftovers(folder):
        tally.add(LEFTOVER, "three writers", ", ".join(left))
    else:
        tally.add(CLEAR, "three writers")


def _appears(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """A folder that is made under the output's name while the build runs."""
    output = folder / "out"
    process = subprocess.Popen(
        _build(ground, output),
        **ground.where,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any(".partial" in p.name for p in folder.iterdir()):
        pass  # it writes from the moment that its hidden folder is there
    try:
        output.mkdir()
        (output / "thesis.txt").write_text("three years of work")
    except FileExistsError:
        process.communicate()
        tally.add(WORKED, "appears: too late")
        return
    _, text = process.communicate(timeout=120)
    del rng
    if not (output / "thesis.txt").is_file():
        tally.add(LOST, "appears", "the file is gone")
    else:
        tally.add(told(process.returncode, text), "appears", text)


def _foreign(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """--force over a directory that holds something of the user's."""
    output = folder / "out"
    kind = rng.choice(("notes", "folder", "project", "sweep", "model", "link"))
    precious = "notes.txt"
    if kind in ("notes", "folder", "link"):
        shutil.copytree(ground.home / "engine", output)
    else:
        output.mkdir()
    if kind == "project":
        (output / "qdeploy.json").touch()
    elif kind == "sweep":
        (output / "qdeploy.json").write_text('{"schema": 1, "kind": "sweep", "model": "m"}')
        precious = "trials/1/accuracy.json"
    elif kind == "model":
        shutil.rmtree(output)
        shutil.copytree(ground.home / "model", output)
        precious = "model.onnx"
    elif kind == "folder":
        precious = "runs/1.csv"
    elif kind == "link":
        output.rename(folder / "target")
        output.symlink_to("target")
    if kind != "model":
        (output / precious).parent.mkdir(parents=True, exist_ok=True)
        (output / precious).write_text("mine")
    before = snapshot(output)[precious]
    done = subprocess.run(
        _build(ground, output, "--force"),
        **ground.where,
        capture_output=True,
        text=True,
    )
    if snapshot(output).get(precious) != before:
        tally.add(LOST, f"--force over {kind}", precious)
    else:
        tally.add(told(done.returncode, done.stderr), f"--force over {kind}", done.stderr[-300:])


def _stray(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Files beside the model that are nobody's business."""
    del rng
    model = Path(shutil.copytree(ground.home / "model", folder / "model"))
    (folder / "secret").write_text("root:x:0:0")
    (model / ".env").write_text("SECRET=abc")
    (model / "pytorch_model.bin").write_bytes(bytes(1000))
    (model / "added_tokens.json").symlink_to(folder / "secret")
    done = subprocess.run(
        _build(ground, folder / "out", model=model),
        **ground.where,
        capture_output=True,
    )
    names = set(snapshot(folder / "out")) if done.returncode == 0 else set()
    if names & {".env", "pytorch_model.bin", "added_tokens.json"}:
        tally.add(WRONG, "stray files", f"travel into the engine: {sorted(names)}")
    else:
        tally.add(WORKED if done.returncode == 0 else UNEXPECTED, "stray files")


def _readers(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """A reader that loads and predicts while another process replaces the engine all the time."""
    del rng
    output = folder / "out"
    writer, reader = Worker(ground), Worker(ground)
    models = [ground.home / "model", ground.home / "model2"]
    both = []
    for model in models:
        reply = writer.call("build", model, folder / model.name, "fp32")
        both.append(reply["value"])
    writer.call("build", models[0], output, "fp32")
    stop = threading.Event()

    def replace() -> None:
        at = 0
        while not stop.is_set():
            at += 1
            writer.call("build", models[at % 2], output, "fp32", True)

    writing = threading.Thread(target=replace)
    writing.start()
    for _ in range(20):
        reply = reader.call("answers", output)
        verdict = replied(reply)
        if verdict == WORKED and not any(close_to(reply["value"], one) for one in both):
            verdict = WRONG
        if verdict == CLEAR:
            verdict = UNEXPECTED  # there is an engine at any time
        tally.add(verdict, "a reader under constant --force", detail(reply))
    stop.set()
    writing.join()
    writer.close()
    reader.close()
