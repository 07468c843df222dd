"""Names that are markup, escape sequences, too long, links or gone."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.torture.ground import (
    LOST,
    UNEXPECTED,
    Ground,
    Tally,
    Worker,
    detail,
    replied,
    told,
)

_NAMES = (
    *("run[/x]", "e[v2]", "[red]bold[/red]", "[link=http://x]a", ":smile:", "$x_1^2$", "a$b"),
    *("\x1b[31mred", "bell\x07", "back\x08space", "line\nbreak", "tab\there", "cr\rback"),
    *("<script>alert(1)</script>", "](javascript:x)", "a|b", "`code`", "# title", "&amp;", '"q"'),
    *(
        "\u202egnirts",
        "\u2066x\u2069",
        "é" * 40,
        "漢字",
        "🙂",
        "x" * 255,
        "x" * 256,
        "-q",
        "--force",
    ),
    *(" ", "a b", "a'b", "%s", "{0}", "..x", ".hidden", "undecodable\udcff\udcfe"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` commands with an odd name or an odd path."""
    worker = Worker(ground)
    uses = ("engine", "output", "data", "json", "html", "card", "model", "odd path")
    for number in range(count):
        name = _NAMES[number % len(_NAMES)]
        if number >= len(_NAMES):
            name = rng.choice(_NAMES) + rng.choice(("", "", ".x", "[0]", "$"))
        with ground.folder() as folder:
            use = uses[number % len(uses)]
            if use == "odd path":
                _odd(ground, worker, folder, rng, tally)
            else:
                _named(ground, worker, folder, use, name, tally)
    worker.close()


def _named(ground: Ground, worker: Worker, folder: Path, use: str, name: str, tally: Tally) -> None:
    what = f"{use} {name!r}"
    path = folder / name
    engine, evaluate = ground.home / "engine", ("--no-latency", "--limit", "8")
    try:
        if use == "engine":
            shutil.copytree(engine, path)
        elif use == "model":
            shutil.copytree(ground.home / "model", path)
        elif use == "data":
            path = folder / f"{name[:240]}.tsv"
            path.write_text("question\tsentence\tlabel\na\tb\tentailment\nc\td\tnot_entailment\n")
    except OSError:
        pass  # a name that cannot be: the command is to say so
    commands: dict[str, tuple[Any, ...]] = {
        "engine": ("eval", path, *evaluate),
        "model": ("inspect", path),
        "output": ("build", ground.home / "model", path, "--strategy", "fp32"),
        "data": ("eval", engine, "--data", path, *evaluate),
        "json": ("eval", engine, "--json", path, *evaluate),
        "html": ("eval", engine, "--html", path, *evaluate),
        "card": ("eval", engine, "--card", path, *evaluate),
    }
    reply = worker.call("cli", *commands[use])
    tally.add(*_verdict(reply, what))


def _verdict(reply: dict[str, Any], what: str) -> tuple[str, str, str]:
    if "value" not in reply:
        return replied(reply) if "hung" in reply else UNEXPECTED, what, detail(reply)
    said = reply["value"]
    verdict = told(said["code"], said["err"])
    text = said["out"] + said["err"]
    if verdict not in (UNEXPECTED,) and (found := _CONTROL.search(text)):
        return UNEXPECTED, what, f"{found.group()!r} is written to the terminal"
    return verdict, what, text[-300:]


def _odd(ground: Ground, worker: Worker, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Loops of links, links to nowhere, a removed working directory, links as outputs."""
    kind = rng.choice(("loop", "dangling", "link", "gone", "file", "nul"))
    model, build = ground.home / "model", ("--strategy", "fp32", "--force", "-q")
    target = folder / "target"
    if kind == "loop":
        (folder / "a").symlink_to("b")
        (folder / "b").symlink_to("a")
        path = folder / "a"
    elif kind == "dangling":
        path = folder / "link"
        path.symlink_to(folder / "nowhere")
    elif kind == "link":
        shutil.copytree(ground.home / "engine", target)
        (target / "notes.txt").write_text("mine")
        path = folder / "link"
        path.symlink_to(target)
    elif kind == "file":
        path = folder / "file"
        path.write_text("mine")
    elif kind == "nul":
        path = Path(f"{folder}/a\0b")
    else:
        _gone(ground, folder, tally)
        return
    for arguments in (
        ("build", model, path, *build),
        ("eval", path, "--no-latency", "-q"),
        ("inspect", path, "-q"),
        ("eval", ground.home / "engine", "--data", path, "--no-latency", "-q"),
    ):
        verdict, what, text = _verdict(worker.call("cli", *arguments), f"{kind}: {arguments[0]}")
        if kind == "link" and not (target / "notes.txt").is_file():
            verdict, text = LOST, "a file behind the link"
        if kind == "file" and path.read_text() != "mine":
            verdict, text = LOST, "a file in the place of the output"
        tally.add(verdict, what, text)
        if verdict == LOST:
            return


def _gone(ground: Ground, folder: Path, tally: Tally) -> None:
    """Commands in a working directory that was removed."""
    here = folder / "here"
    here.mkdir()
    script = f'cd "{here}" && rmdir "{here}" && exec "$0" "$@"'
    for arguments in (
        ("build", ground.home / "model", "out", "--strategy", "fp32", "-q"),
        ("eval", ground.home / "engine", "--no-latency", "--limit", 8, "-q"),
    ):
        here.mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", script, *ground.command(*arguments)],
            env=os.environ | ground.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        verdict = told(done.returncode, done.stderr)
        tally.add(verdict, f"removed working directory: {arguments[0]}", done.stderr[-300:])
