"""Results for the eye, on standard output. Figures come from the report; none is computed anew."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from qdeploy import figures
from qdeploy.cli.streams import shown
from qdeploy.commands import command, free_place
from qdeploy.names import eight_bits

if TYPE_CHECKING:
    from rich.table import Table

    from qdeploy.schemas.certificate import Int8
    from qdeploy.schemas.manifest import (
        EstimateFields,
        Lengths,
        ModelManifest,
        Noise,
    )
    from qdeploy.schemas.sweep import SweepResult

_WIDEST_TEXT = 100
_SHELL_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")

# Shares of the FLOPs of all constant-weight products; the middle one counts GEMMs of the plan.
INT8 = "INT8: planned, ran, of all"
_OF_A_SWEEP = (
    *("drop\npoints", "SQNR\ndB", "p50\nms", "×\nFP32", "size\nMB"),
    "8 bits\nof all, %",
)


def model(manifest: ModelManifest, directory: Path) -> None:
    """The result of `export`."""
    check, source = manifest.get("verification", {}), manifest["source"]
    say(f"{directory}: {manifest.get('model_type')}, {manifest.get('task')}")
    if "max_abs_diff" in check:
        part = f", {check['max_rel_diff']:.1e} of the largest" if "max_rel_diff" in check else ""
        what = "Outputs against the file" if "onnx" in source else "Logits against torch"
        say(f"{what}: max |difference| {check['max_abs_diff']:.1e}{part}")
    own = source.get("id") != "embedded"
    following(
        *("build", directory, free_place(directory, "peg")),
        note="--data FILE calibrates it on rows of your own, which fits better" if own else "",
    )


def lengths(found: Lengths) -> str:
    """How long the rows of a calibration are, and how many were cut."""
    text = figures.row_tokens(found["lengths"])
    if not found["truncated"]:
        return f"{text}; none cut"
    share = figures.part(found["truncated_share"])
    cut = figures.counted(found["truncated"], "row")
    return f"{text}; {cut} ({share}) cut at {found['max_length']}"


def int8(check: Int8, strategy: str) -> str:
    """`INT8: 99.9 % of all constant-weight FLOPs planned, 36/36 …`, or that nothing was planned."""
    return f"{eight_bits(strategy)}: {check['summary']}"


def estimate(found: EstimateFields) -> str:
    """`Estimate at 8 × 128 (not measured): RTX 3050 2.35 ms, RTX 4090 0.34 ms`."""
    rows, tokens = found["shape"]
    times = [f"{name} {figures.milliseconds(ms)} ms" for name, ms in found["estimated_ms"].items()]
    return f"Estimate at {rows} × {tokens} (not measured): {', '.join(times)}"


def noise(found: Noise) -> str:
    """`Against FP32 on 32 rows of qnli-mini: 29.2 dB of logit SQNR, 0 of 32 answers change, …`."""
    ran = "simulated on" if found["simulated"] else "on"
    text = f"Against FP32 {ran} {found['rows']} rows of {found['data']}: "
    if not found["finite"]:
        return text + "outputs are not finite"
    if found["equal"]:
        return text + "the same logits"
    if found["sqnr_db"] is not None:
        output = "output" if found["flipped"] is None else "logit"
        text += f"{figures.decibels(found['sqnr_db'])} dB of {output} SQNR, "
    if found["flipped"] is not None:
        text += f"{figures.changed(found['flipped'], found['answers'])}, "
    if found["max_abs_diff"] is not None:
        text += f"largest difference {figures.logit_difference(found['max_abs_diff'])}"
    return text + (" (too noisy, see the warning)" if found["warning"] else "")


def sweep(result: SweepResult) -> None:
    """The result of `sweep`: one line per trial; * stands on the Pareto front."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from qdeploy.schemas.sweep import is_finished

    data = result["data"]
    title = f"{result['model']}, {data['n']} rows"
    if data["left_out"]:
        title += f" ({data['left_out']} that calibrate are left out)"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    for name in ("trial", _metric_of(result), *_OF_A_SWEEP):
        left = name == "trial"
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(name, justify=justify, no_wrap=not left, overflow="fold")
    for trial in result["trials"]:
        mark = "* " if trial["key"] in result["pareto"] else "  "
        if not is_finished(trial):
            table.add_row(f"{mark}{trial['label']}", "FAILED", style="red")
            continue
        check, speed = trial["int8"], trial["speedup"]
        table.add_row(
            mark + trial["label"],
            figures.measured(trial["metric"], trial["value"]),
            figures.points(trial["drop"]),
            "" if trial["sqnr_db"] is None else figures.decibels(trial["sqnr_db"]),
            figures.milliseconds(trial["p50_ms"]),
            figures.factor(speed["ratio"] if speed else 1.0),
            figures.megabytes(trial["size_mb"]["total"]),
            figures.percent_cell(check["flops_share"]) if check and check["planned"] else "",
            style="red" if trial["constant_predictor"] else None,
        )
    show(table)
    for trial in result["trials"]:
        if trial["error"] is not None:
            wrapped(f"FAILED {trial['label']}: {trial['error']}")
    done = [trial for trial in result["trials"] if is_finished(trial)]
    if constant := [trial["label"] for trial in done if trial["constant_predictor"]]:
        wrapped(f"CONSTANT PREDICTOR, one class for every row: {'; '.join(constant)}")
    if (chosen := result["next"]) is not None:
        label = next(t["label"] for t in result["trials"] if t["key"] == chosen["key"])
        wrapped(f"Take {label}: {chosen['reason']}.")
        say(f"Next: {chosen['command']}")


def _metric_of(result: SweepResult) -> str:
    """The heading of what trials are judged by; the baseline has always one."""
    from qdeploy.schemas.sweep import is_finished

    name = next((t["metric"] for t in result["trials"] if is_finished(t)), "accuracy")
    return "accuracy\n%" if name == "accuracy" else name.replace(" ", "\n")


def following(
    *words: str | Path, options: Mapping[str, object] | None = None, note: str = ""
) -> None:
    """The command to type next, on one line that can be pasted.

    Args:
        words, options: of `qdeploy.commands.command`.
        note: what is to be known of it, under it.
    """
    say(f"Next: {command(*words, options=options)}")
    if note:
        wrapped(f"({note})", indent="      ", hanging="       ")


def mapping(value: Mapping[str, object], depth: int = 0) -> None:
    """Any report, as indented lines."""
    pad = "  " * depth
    for key, item in value.items():
        if isinstance(item, Mapping):
            say(f"{pad}{key}:")
            mapping(item, depth + 1)
        elif isinstance(item, list) and item and isinstance(item[0], Mapping):
            say(f"{pad}{key}:")
            for entry in item:
                say(f"{pad}  - " + ", ".join(f"{k} {v}" for k, v in entry.items()))
        else:
            say(f"{pad}{key}: {item}")


def say(text: str) -> None:
    """A line on standard output, whatever names are in it."""
    click.echo(shown(text))


def screen_width() -> int:
    """Columns of the terminal; 80 where there is none, at most 100 so that lines stay readable."""
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, _WIDEST_TEXT))


def table_width() -> int:
    """Columns of a table: all that the terminal has; COLUMNS or 80 where there is none."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def wrapped(text: str, *, indent: str = "", hanging: str | None = None) -> None:
    """Print a text over as many lines as it takes: see `filled`."""
    click.echo(filled(text, indent=indent, hanging=hanging))


def filled(text: str, *, indent: str = "", hanging: str | None = None) -> str:
    """A text over as many lines as it takes; no word is broken.

    Args:
        indent: in front of the first line.
        hanging: in front of the others; `indent` and two spaces when left out.
    """
    lines = textwrap.wrap(
        shown(text).replace(" %", "\u00a0%"),  # a sign stays on the line of its number
        screen_width() - 1,
        initial_indent=indent,
        subsequent_indent=f"{indent}  " if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines or [indent]).replace("\u00a0%", " %")


def pasted(command: str, *, indent: str = "") -> None:
    """A command of a shell over as many lines as it takes, which can be pasted as they are.

    Args:
        command: words quoted as the shell wants them.
    """
    words = _SHELL_WORD.findall(shown(command)) or [""]
    lines, most = [words[0]], screen_width() - len(indent) - 5
    for word in words[1:]:
        if len(lines[-1]) + len(word) < most:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}")
    click.echo("\n".join(f"{indent}{line} \\" for line in lines[:-1]), nl=len(lines) > 1)
    click.echo(f"{indent}{lines[-1]}")


def facts(rows: Sequence[tuple[str, str]], *, indent: str = "") -> None:
    """Names, and beside each what there is to say, wrapped in a column of its own."""
    width = max((len(name) for name, _ in rows), default=0) + 2
    for name, text in rows:
        first = f"{indent}{shown(name).ljust(width)}"
        wrapped(text, indent=first, hanging=" " * len(first))


def show(table: Table, *, width: int | None = None) -> None:
    """A table; its cells are text, and no markup.

    Args:
        width: in columns; None for the terminal's, or where there is none COLUMNS or 80.
    """
    from rich.console import Console

    for column in table.columns:
        column._cells = [shown(c) if isinstance(c, str) else c for c in column.cells]
    if isinstance(table.title, str):
        table.title = shown(table.title)
    console = Console(width=width or table_width(), markup=False, emoji=False, highlight=False)
    with console.capture() as drawn:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()), color=True)
