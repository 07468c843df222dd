"""Exit codes and texts of the command line: no traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from qdeploy import api, errors
from qdeploy.cli import EX_SOFTWARE, INTERRUPTED, main
from qdeploy.errors import QDeployError, QDeployWarning
from qdeploy.files import kept
from qdeploy.machine.remedies import install_command

MISTAKES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, QDeployError)
]


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException, name: str = "inspect") -> None:
    """Let a function of the API raise `error`."""

    def function(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, name, function)


@pytest.mark.parametrize("cls", MISTAKES)
def test_errors_become_text_and_exit_code(
    cls: type[QDeployError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, cls("x.onnx is broken. Make it anew."))
    assert main(["inspect", "x.onnx"]) == cls.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Error: x.onnx is broken. Make it anew.\n"


def test_a_package_of_an_extra_that_is_missing_is_no_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"))
    assert main(["inspect", "x"]) == QDeployError.exit_code
    assert f"Type: {install_command('cpu')}" in capsys.readouterr().err
    fail(monkeypatch, ModuleNotFoundError("No module named 'ours'", name="ours"))
    assert main(["inspect", "x"]) == EX_SOFTWARE


def test_unexpected_errors_are_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, RuntimeError("boom"))
    assert main(["inspect", "x"]) == EX_SOFTWARE
    err = capsys.readouterr().err
    assert err == (
        "Error: qdeploy failed unexpectedly: RuntimeError: boom\n"
        "Run again with --verbose for the traceback, and please report it.\n"
    )


def test_verbose_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, RuntimeError("boom"))
    assert main(["inspect", "x", "--verbose"]) == EX_SOFTWARE
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "Run again" not in err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["exprot"], "No such command 'exprot'. Did you mean 'export'?"),
        (["build", "m", "e", "--stratgy", "peg"], "'--strategy'"),
        (["eval"], "Missing argument 'ENGINE_DIR'"),
        (["eval", "e", "--require-int8", "99"], "99. Give a number from 0 to 1."),
        (["eval", "e", "--limit", "0"], "0. Give a whole number from 1 up."),
        (
            ["build", "m", "e", "--calibration-rows", "many"],
            "'many'. Give a whole number from 1 up.",
        ),
    ],
)
def test_wrong_use_is_2_and_says_what_is_right(
    args: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["build", "--help"]])
def test_help_and_version_are_0(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 0
    assert "qdeploy" in capsys.readouterr().out


def test_ctrl_c_is_130_and_says_what_is_true(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, KeyboardInterrupt(), "build")
    assert main(["build", "m", "e"]) == INTERRUPTED
    assert "Interrupted: nothing was written." in capsys.readouterr().err

    def sweep(*_: object, **__: object) -> None:
        kept.note("statistics", "statistics were kept in m/statistics")
        kept.note("sweep", "0 of 3 trials kept in s")
        kept.note("sweep", "1 of 3 trials kept in s")
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "sweep", sweep)
    assert main(["sweep", "m", "s", "--recipe", "r"]) == INTERRUPTED
    text = "Interrupted: statistics were kept in m/statistics; 1 of 3 trials kept in s.\n"
    assert capsys.readouterr().err.endswith(text)
    assert main(["build", "m", "e"]) == INTERRUPTED  # what another command kept is forgotten
    assert "Interrupted: nothing was written." in capsys.readouterr().err


INTERRUPTED_BUILD = """
import sys, time
from pathlib import Path
from qdeploy import api
from qdeploy.files.publish import staged
from qdeploy.cli import main

def build(model_dir, engine_dir, **_):
    with staged(engine_dir, "engine") as work:
        (work / "model.onnx").write_text("half")
        print("half", flush=True)
        time.sleep(60)

api.build = build
sys.argv = ["qdeploy", "build", "model", sys.argv[1]]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (signal.SIGINT, "Interrupted"),
        (signal.SIGTERM, "Ended by SIGTERM"),
        (signal.SIGHUP, "Ended by SIGHUP"),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_in_a_build_leaves_nothing(
    number: signal.Signals, word: str, times: int, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_BUILD, str(tmp_path / "engine")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)  # into the sleep, past the print
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.001)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert err.strip() == f"{word}: nothing was written."
    assert list(tmp_path.iterdir()) == []


DESCRIBED: dict[str, Any] = {"kind": "onnx", "inputs": {}, "operators": {"MatMul": 7}}


def warn(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(*_: object, **__: object) -> dict[str, Any]:
        warnings.warn("the labels look swapped", QDeployWarning, stacklevel=2)
        warnings.warn("a library's own business", UserWarning, stacklevel=2)
        return DESCRIBED

    monkeypatch.setattr(api, "inspect", function)


@pytest.mark.parametrize(
    ("flags", "own", "foreign"), [([], True, False), (["-q"], False, False), (["-v"], True, True)]
)
def test_warnings_go_to_stderr_as_asked(
    flags: list[str],
    own: bool,
    foreign: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn(monkeypatch)
    assert main(["inspect", "x", *flags]) == 0
    err = capsys.readouterr().err
    assert ("Warning: the labels look swapped" in err) is own
    assert ("a library's own business" in err) is foreign


def test_filters_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (warnings.filters[:], warnings.showwarning)
    warn(monkeypatch)
    main(["inspect", "x", "-q"])
    assert (warnings.filters[:], warnings.showwarning) == before


def test_json_on_standard_output_stands_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warn(monkeypatch)
    assert main(["inspect", "x", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == DESCRIBED


def test_json_in_a_file_stands_beside_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warn(monkeypatch)
    assert main(["inspect", "x", "--json", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == DESCRIBED
    assert "7 MatMul" in capsys.readouterr().out


def test_a_json_file_that_cannot_be_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(monkeypatch, AssertionError("the work began"))
    assert main(["inspect", "x", "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "does not exist. Make it first." in capsys.readouterr().err
    assert main(["inspect", "x", "--json", str(tmp_path)]) == 2
    assert "is a directory. Name a file in it." in capsys.readouterr().err


def test_quiet_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warn(monkeypatch)
    assert main(["inspect", "x", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_python_dash_m_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qdeploy", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("qdeploy, version ")


def test_a_reader_that_leaves_is_no_error() -> None:
    """`qdeploy --help | head -0`: the pipe is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "qdeploy", "doctor"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert "Traceback" not in done.stderr


def test_a_signal_while_the_command_is_imported_is_told() -> None:
    """Python itself would end without a word."""
    code = (
        "import os, signal, sys, time\n"
        "from qdeploy.__main__ import main\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'qdeploy.cli':\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "            time.sleep(30)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 143
    assert done.stderr == "Ended by SIGTERM: nothing was written.\n"


def test_a_signal_behind_the_command_changes_nothing() -> None:
    """All is done and said; Python by itself would end by the signal."""
    code = (
        "import atexit, os, signal, sys\n"
        "from qdeploy.__main__ import main\n"
        "sys.argv = ['qdeploy', '--version']\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "version" in done.stdout
