"""The command line: the group, and how errors become text and exit codes.

Exit codes: 0 done, 1 a gate failed, 2 wrong use, 70 an error of qdeploy itself (EX_SOFTWARE of
sysexits.h), 128 and the number of the signal that ended it, as shells count: 130 of Ctrl-C, 143 of
SIGTERM, 129 of SIGHUP.
"""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

import qdeploy
from qdeploy.cli import output as talk
from qdeploy.cli import streams, tables
from qdeploy.cli.analyze import analyze
from qdeploy.cli.build import build
from qdeploy.cli.bundle import bundle
from qdeploy.cli.calibrate import calibrate
from qdeploy.cli.demo import demo
from qdeploy.cli.doctor import doctor
from qdeploy.cli.eval import evaluate
from qdeploy.cli.export import export
from qdeploy.cli.inspect import inspect
from qdeploy.cli.predict import predict
from qdeploy.cli.signals import Asked, listening
from qdeploy.cli.sweep import sweep
from qdeploy.cli.verify import sign, verify
from qdeploy.errors import QDeployError, QDeployWarning
from qdeploy.files import kept
from qdeploy.machine.faults import machine_fault

EX_SOFTWARE = 70
INTERRUPTED = 130


class Failure(click.ClickException):
    """An error whose text is for the user; shown without a traceback."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(streams.shown(message))
        # click declares it for the class and reads it from the instance
        self.exit_code = exit_code  # type: ignore[misc]


class CommandGroup(click.Group):
    """The group that turns errors of its commands into `Failure`, and lists them in order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of the work, not of the alphabet."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, and one line for the options: the first screen fits 80 × 24."""
        self.format_commands(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(
            "`qdeploy COMMAND --help` lists its options; `qdeploy --version` the version."
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with warnings.catch_warnings(), talk.noting(ctx):
                _show_own_warnings(ctx)
                return super().invoke(ctx)
        except QDeployError as error:
            raise Failure(str(error), error.exit_code) from error
        except BrokenPipeError as error:  # the reader (`| head`) left; click would end with 1
            raise click.exceptions.Exit(0) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            fault = machine_fault(error)
            if fault is None:
                raise Failure(_internal_error(ctx, error), EX_SOFTWARE) from error
            trace = _trace(error) if talk.is_verbose(ctx) else ""
            raise Failure(f"{trace}{fault}", fault.exit_code) from error
        finally:
            streams.draw(None)  # a signal may come between what begins to draw and what ends it


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 96}


@click.group(cls=CommandGroup, context_settings=_SETTINGS)
@click.version_option(qdeploy.__version__, prog_name="qdeploy")
def cli() -> None:
    """\b
    INT8 engines of encoders that keep their accuracy. Start with `qdeploy demo`.
      qdeploy export  CHECKPOINT  MODEL_DIR     CHECKPOINT may be `embedded`
      qdeploy build   MODEL_DIR   ENGINE_DIR  --data FILE
      qdeploy eval    ENGINE_DIR  --baseline fp32
    """


for _command in (
    *(export, calibrate, analyze, build, evaluate, predict, bundle),
    *(verify, sign, inspect, sweep, doctor, demo),
):
    cli.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; a user's mistake prints no traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    streams.prepare()
    streams.remember(args)
    kept.forget()
    with listening(to_the_end=argv is None) as asked:
        return streams.settle(_run(args, asked))


def _run(args: Sequence[str], asked: Asked) -> int:
    """The exit code of a command; what went wrong is said.

    What fails once a signal has come fails for that: some libraries make another error of it.
    """
    try:
        # click gives the code of --help and --version back, and a command's own return value (None)
        code = cli.main(args, prog_name="qdeploy", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return _interrupted(asked)
    except click.ClickException as error:
        if asked.number:
            return _interrupted(asked)
        said = io.StringIO()
        error.show(said)  # click's own hold what was typed
        streams.say(said.getvalue().rstrip("\n"))
        return error.exit_code
    except BrokenPipeError:  # the reader (`| head`) left
        return 0
    except OSError as error:  # of --help and --version, which are no commands
        streams.say(f"Error: {streams.unwritable(error)}")
        return QDeployError.exit_code


def _interrupted(asked: Asked) -> int:
    streams.say(talk.interrupt_text(asked.word))
    return asked.exit_code


def _show_own_warnings(ctx: click.Context) -> None:
    """Print qdeploy's warnings; those of libraries only with --verbose.

    A terminal has them wrapped; a log has one line of each.
    """

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = f"Warning: {message}"
        streams.say(tables.filled(text) if sys.stderr.isatty() else text)

    warnings.showwarning = show
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", QDeployWarning)
    # The options of the command are read inside `Group.invoke`, after this, so --verbose widens
    # the filter itself (talk.py); catch_warnings takes all of it back.


def _internal_error(ctx: click.Context, error: Exception) -> str:
    """The text of an error nobody expected."""
    fact = f"qdeploy failed unexpectedly: {type(error).__name__}: {error}"
    if talk.is_verbose(ctx):
        return f"{_trace(error)}{fact}"
    return f"{fact}\nRun again with --verbose for the traceback, and please report it."


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
