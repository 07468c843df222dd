"""Write docs/cli.md from the help texts: `make docs`. A test holds the page equal to the output."""

from __future__ import annotations

from pathlib import Path

import click

from qdeploy.cli import cli

PAGE = Path(__file__).with_name("cli.md")
_WIDTH = 96  # fixed, so that the page does not depend on the terminal that made it
_HEAD = """# Command line

<!-- Written by docs/generate_cli.py from `--help`; do not edit. `make docs` writes it anew. -->

Exit codes: 0 done; 1 a gate failed (`--max-drop`, `--require-int8`, the rules of `inspect
--target`); 2 wrong use; 70 an error of qdeploy itself; 130 interrupted (143 by SIGTERM, 129 by
SIGHUP). Progress goes to standard error, results to standard output.
"""


def page() -> str:
    """The text of docs/cli.md."""
    root = _context(cli, "qdeploy", None)
    parts = [_HEAD, _block("qdeploy", cli.get_help(root))]
    for name, command in cli.commands.items():
        context = _context(command, name, root)
        parts.append(_block(f"qdeploy {name}", command.get_help(context)))
    return "\n".join(parts)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )


def _block(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
