"""Names that are markup, escape sequences, too long, links or gone."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.torture import shown, whole
from tests.torture.calls import Worker, detail
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
from tests.torture.oddly import odd

NAMES = (
    *("run[/x]", "e[v2]", "[red]bold[/red]", "[link=http://x]a", ":smile:", "$x_1^2$", "$\\frac$"),
    *("\x1b[31mred", "\x1b]0;title\x07", "bell\x07", "back\x08space", "line\nbreak", "tab\there"),
    *("cr\rback", "<script>alert(1)<", "<img src=x onerror=y>"),
    *("](javascript:x)", "a|b", "`code`", "# title", "&amp;", '"q"', "<b>title"),
    *("\u202egnirts", "\u2066x\u2069", "\x9b31m", "é" * 40, "漢字", "🙂", "x" * 255, "x" * 256),
    *("-q", "--force", " ", "a b", "a'b", "%s", "{0}", "..x", ".hidden", "${HOME}", "a;b"),
    *("undecodable\udcff\udcfe", "\udcc3", "x" * 5000, "é" * 128, "CON", "~", "*", "a\\b"),
)
_LABELS = (
    *("[red]no[/red]", "[/x]", "<script>alert(1)</script>", "a|b", "$x_1^2$", "\x1b[31mred"),
    *("line\nbreak", "</td></tr>", "![x](http://x)", "{{7*7}}", "\u202egnirts", "x" * 3000),
)
USES = (
    *("engine", "output", "data", "json", "html", "card"),
    *("model", "label", "baseline", "export", "odd", "analyze"),
)


def run(ground: Ground, rng: random.Random, count: int, tally: Tally) -> None:
    """`count` commands with an odd name, or at an odd path."""
    worker = Worker(ground)
    with ground.folder() as folder:
        usual, engine = folder / "usual.html", ground.home / "engine"
        worker.call("cli", *_evaluate(engine), "--html", usual)
        outline = shown.outline(usual)
        worker.call("cli", *_evaluate(engine), "--baseline", engine, "--html", usual)
        outline |= shown.outline(usual)
        assert outline
    names = rng.sample(NAMES, len(NAMES))
    for number in range(count):
        use = USES[number % len(USES)]
        if use == "analyze" and number % 4:  # it takes seconds
            use = "engine"
        with ground.folder() as folder:
            if use == "odd":
                odd(ground, worker, folder, rng, tally)
            elif use == "label":
                _labelled(ground, worker, folder, rng.choice(_LABELS), outline, tally)
            else:
                name = names[number % len(names)] + ("" if number < 60 else rng.choice(_TAILS))
                _named(ground, worker, folder, use, name, outline, tally)
    worker.close()


_TAILS = ("", ".x", "[0]", "$", "[/]", "\x1b")


def _evaluate(engine: Path) -> tuple[Any, ...]:
    return ("eval", engine, "--no-latency", "--limit", "8")


def _named(
    ground: Ground,
    worker: Worker,
    folder: Path,
    use: str,
    name: str,
    outline: set[str],
    tally: Tally,
) -> None:
    path, page = folder / name, folder / "page.html"
    engine, model = ground.home / "engine", ground.home / "model"
    try:
        if use in ("engine", "baseline"):
            shutil.copytree(engine, path)
        elif use in ("model", "analyze"):
            shutil.copytree(model, path)
        elif use == "export":
            shutil.copytree(ground.home / "model-checkpoint", path)
        elif use == "data":
            path.write_text("question\tsentence\tlabel\na\tb\tentailment\nc\td\tnot_entailment\n")
            path = Path(shutil.move(path, f"{path}.tsv"))
    except (OSError, shutil.Error):
        pass  # a name that cannot be: the command is to say so
    analyze = ("analyze", path, "--calibration-rows", "8", "--cost-rows", "0", "--html", page)
    commands: dict[str, tuple[Any, ...]] = {
        "engine": (*_evaluate(path), "--html", page),
        "baseline": (*_evaluate(engine), "--baseline", path, "--html", page),
        "model": ("inspect", path),
        "analyze": (*analyze, "--plot", folder / "plot"),
        "output": ("build", model, path, "--strategy", "fp32"),
        "export": ("export", path, folder / "out"),
        "data": (*_evaluate(engine), "--data", path, "--html", page),
        "json": (*_evaluate(engine), "--json", path),
        "html": (*_evaluate(engine), "--html", path),
        "card": (*_evaluate(engine), "--card", path),
    }
    verdict, why = judged(worker.call("cli", *commands[use], limit=120), name)
    if verdict == WORKED:
        verdict, why = _made(use, path, page if page.exists() else path, outline) or (verdict, why)
    if left := whole.hidden(folder / "out", ground.temporary):
        verdict, why = LEFTOVER, ", ".join(left)
    tally.add(verdict, f"{use} {name[:60]!r}", why)


def judged(reply: dict[str, Any], name: str) -> tuple[str, str]:
    """The verdict of a command line with a name in it, and why."""
    if "value" not in reply:
        return (HUNG if "hung" in reply else UNEXPECTED), detail(reply)
    said = reply["value"]
    verdict, text = told(said["code"], said["err"]), said["out"] + said["err"]
    if verdict in (WORKED, CLEAR) and (why := shown.fault(text, name)):
        return WRONG, why
    return verdict, f"exit {said['code']}: {text[-300:]}"


def _made(use: str, path: Path, page: Path, outline: set[str]) -> tuple[str, str] | None:
    """What is wrong with what a command wrote under an odd name."""
    if use == "json" and whole.read_json(path) is None:
        return LOST, "no JSON stands under the name"
    if use == "output" and not whole.whole_directory(path):
        return LOST, "no engine stands under the name"
    if use == "card":
        text = path.read_text("utf-8", errors="replace") if path.is_file() else None
        if text is None or "<script>" in text or "<img src" in text:
            return WRONG, "markup in the card, or no card"
    if use in ("engine", "baseline", "data", "html"):
        if not page.is_file():
            return LOST, "no page stands under the name"
        if new := shown.outline(page) - outline:
            return WRONG, f"markup in the page: {', '.join(sorted(new)[:4])}"
    return None


def _labelled(
    ground: Ground, worker: Worker, folder: Path, label: str, outline: set[str], tally: Tally
) -> None:
    """An engine whose class has an odd name: table, page, card and JSON."""
    engine = Path(shutil.copytree(ground.home / "engine", folder / "engine"))
    for path in (engine / "config.json", engine / whole.MANIFEST):
        value = json.loads(path.read_text("utf-8"))
        if "labels" in value:
            value["labels"] = [label, "other"]
        if "id2label" in value:
            value |= {"id2label": {"0": label, "1": "other"}, "label2id": {label: 0, "other": 1}}
        path.write_text(json.dumps(value))
    whole.sign(engine / "config.json")
    rows = folder / "rows.jsonl"
    names = (label, "other")
    lines = [{"question": "who", "sentence": f"king {i}", "label": names[i % 2]} for i in range(4)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page, card, report = folder / "p.html", folder / "c.md", folder / "r.json"
    files = ("--data", rows, "--html", page, "--card", card, "--json", report)
    verdict, why = judged(worker.call("cli", *_evaluate(engine), *files), label)
    if verdict == WORKED:
        if new := shown.outline(page) - outline:
            verdict, why = WRONG, f"markup in the page: {', '.join(sorted(new)[:4])}"
        elif "<script>" in card.read_text("utf-8") or whole.read_json(report) is None:
            verdict, why = WRONG, "markup in the card, or half a report"
    tally.add(verdict, f"label {label[:60]!r}", why)
