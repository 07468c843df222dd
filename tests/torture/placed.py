"""Outputs: what appears meanwhile, what stands there already, and what travels along."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from tests.torture import together, whole
from tests.torture.ground import (
    CLEAR,
    HUNG,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    told,
)

_STEPS = 6  # of the progress of a build without calibration
_FORCED = ("notes", "folder", "hidden", "project", "sweep", "model", "link", "nowhere", "changed")
SLOW = Path(__file__).with_name("slow.py")


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` rounds of every kind."""
    for _ in range(count):
        for kind in (_appears, _foreign, _foreign, _stray):
            with ground.folder() as folder:
                kind(ground, folder, rng, tally)
        together.run(ground, rng, tally)


def slow_build(ground: Ground, output: Path, step: int, *before: str) -> subprocess.Popen[str]:
    """A build that has come to a step and waits for a line."""
    process = subprocess.Popen(
        [*before, sys.executable, str(SLOW), str(ground.home / "model"), str(output), str(step)],
        **ground.where,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "there":
        process.kill()
        process.communicate()
        raise AssertionError("a build ended before its last step")
    return process


def go_on(process: subprocess.Popen[str]) -> str:
    """What a slow build says at its end; empty where it hung."""
    try:
        return process.communicate("\n", timeout=120)[0].strip()
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ""


def _appears(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Something takes the output's name while the build, without --force, is at some step."""
    output, step = folder / "out", rng.randrange(1, _STEPS + 1)
    kind = rng.choice(("folder", "empty folder", "file", "engine", "link"))
    what = f"{kind} appears at step {step}"
    process = slow_build(ground, output, step)
    if step == _STEPS and output.exists():  # it was published before its last step
        tally.add(WORKED if go_on(process) == "done" else UNEXPECTED, what, "at the last step")
        return
    _put(ground, output, kind)
    before = _identity(output)
    said = go_on(process)
    if _identity(output) != before:
        tally.add(LOST, what, f"it is gone or changed; the build says: {said}")
    elif not said:
        tally.add(HUNG, what)
    elif said == "done":
        tally.add(WRONG, what, "the build says that it is done")
    elif str(output) not in said or not said.startswith("qdeploy.errors."):
        tally.add(UNEXPECTED, what, said)
    elif left := whole.hidden(folder):
        tally.add(LEFTOVER, what, ", ".join(left))
    else:
        tally.add(CLEAR, what)


def _identity(path: Path) -> object:
    """What stands under a name: its inode, not what a link leads to, and all contents."""
    try:
        mode, inode, *_ = os.lstat(path)
    except OSError:
        return None
    return mode, inode, whole.snapshot(path)


def _put(ground: Ground, output: Path, kind: str) -> None:
    if kind == "file":
        output.write_text("three years of work")
    elif kind == "engine":
        shutil.copytree(ground.home / "other", output)
    elif kind == "link":
        (output.parent / "target").mkdir()
        (output.parent / "target" / "thesis.txt").write_text("three years of work")
        output.symlink_to("target")
    else:
        output.mkdir()
        if kind == "folder":
            (output / "thesis.txt").write_text("three years of work")


def _foreign(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """--force over a directory that holds something of the user's, or is no engine at all."""
    output, kind = folder / "out", rng.choice(_FORCED)
    precious = _stand(ground, output, kind)
    before = whole.snapshot(folder)
    done = ground.run(
        *("build", ground.home / "model", output, "--strategy", "fp32", "-q", "--force")
    )
    after, what = whole.snapshot(folder), f"--force over {kind}"
    changed = [name for name, raw in before.items() if after.get(name) != raw]
    if done.returncode == 0 and (kind in ("link", "changed") or precious):
        changed = [name for name in changed if Path(name).name in precious]
    if changed or (kind in ("link", "nowhere") and not output.is_symlink()):
        tally.add(LOST, what, f"exit {done.returncode}: {', '.join(changed[:4]) or 'the link'}")
        return
    verdict = told(done.returncode, done.stderr, str(output))
    if verdict == CLEAR and precious and not any(name in done.stderr for name in precious):
        verdict = UNEXPECTED  # what is in the way is named
    if verdict == WORKED and (kind not in ("link", "nowhere", "changed") or not _whole(output)):
        verdict = WRONG  # these alone are an engine of qdeploy's own, and nothing else
    if left := [name for name in whole.hidden(folder) if name not in before]:
        tally.add(LEFTOVER, what, ", ".join(left))
    else:
        tally.add(verdict, what, done.stderr[-300:])


def _stand(ground: Ground, output: Path, kind: str) -> tuple[str, ...]:
    """Put something in an output's place; names of files that are not qdeploy's."""
    if kind in ("notes", "folder", "hidden", "link", "changed"):
        shutil.copytree(ground.home / "engine", output)
    elif kind == "model":  # a directory of qdeploy's own, of another kind
        shutil.copytree(ground.home / "model", output)
        return ()
    elif kind == "nowhere":
        output.symlink_to("nowhere")
        return ()
    if kind == "link":
        output.rename(output.parent / "target")
        output.symlink_to("target")
        return ()
    if kind == "changed":  # an engine's own file, whatever is in it, goes with the engine
        (output / "config.json").write_text("{}")
        return ()
    name = {
        "folder": "runs/1.csv",
        "hidden": ".env",
        "project": "main.py",
        "sweep": "trials/1/accuracy.json",
    }.get(kind, "notes.txt")
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    (output / name).write_text("{}")
    if kind == "project":
        (output / whole.MANIFEST).touch()
        return ()
    if kind == "sweep":
        (output / whole.MANIFEST).write_text('{"schema": 1, "kind": "sweep", "model": "m"}')
        return ()
    return (Path(name).name,)


def _whole(output: Path) -> bool:
    return whole.whole_directory(output) and (output / "plan.json").is_file()


def _stray(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Files and links beside the model that nobody listed: only what its manifest names travels."""
    model = Path(shutil.copytree(ground.home / "model", folder / "model"))
    (folder / "secret").write_text("root:x:0:0")
    names = (".env", "pytorch_model.bin", "vocab.txt", "added_tokens.json", "model.onnx.data")
    stray = rng.sample(names, 3)
    for name in stray:
        if rng.random() < 0.5:
            (model / name).symlink_to(folder / "secret")
        else:
            (model / name).write_text("SECRET=abc")
    output = folder / "out"
    done = ground.run("build", model, output, "--strategy", "fp32", "-q")
    what = f"stray {', '.join(stray)}"
    travelled = sorted(set(stray) & set(whole.snapshot(output)))
    if travelled:
        tally.add(LOST, what, f"travel into the engine: {', '.join(travelled)}")
    elif done.returncode == 0 and not _whole(output):
        tally.add(WRONG, what, "the engine is not whole")
    else:
        tally.add(told(done.returncode, done.stderr, *stray), what, done.stderr[-300:])
