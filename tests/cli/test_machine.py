"""What the machine refuses is told by every command: exit code, text, and what is left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy import api
from qdeploy.cli import EX_SOFTWARE, main
from qdeploy.cli.signals import Asked, listening
from qdeploy.errors import GateError, MachineError, OutputError, QDeployError
from qdeploy.files import kept
from tests.calibrate.encoder import model_directory
from tests.disks import mounted

ROOT = Path(__file__).parent.parent.parent
COMMANDS = {
    "export": ["export", "ckpt", "out"],
    "calibrate": ["calibrate", "m"],
    "analyze": ["analyze", "m"],
    "build": ["build", "m", "out"],
    "evaluate": ["eval", "e"],
    "inspect": ["inspect", "e"],
    "sweep": ["sweep", "m", "s", "--recipe", "r"],
    "doctor": ["doctor"],
    "demo": ["demo"],
}
NAMED = [
    (OSError(errno.ENOSPC, "No space left on device", "x/y"), "disk of .* is full; x/y was not"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk.* is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "x/y"), "quota is used up; x/y"),
    (OSError(errno.EROFS, "Read-only file system", "x/y"), "x/y .* read-only"),
    (PermissionError(errno.EACCES, "Permission denied", "x/y"), "x/y cannot be made"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", "x/y"), "x/y .*not a directory"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "x/y"), "x/y: Is a directory"),
    (OSError(errno.EMFILE, "Too many open files", "x/y"), "Too many files .* x/y .*ulimit -n"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "x/y"), "x/y has a name .* too long"),
    (OSError(errno.ELOOP, "Too many levels", "x/y"), "x/y is a loop of links"),
    (OSError(errno.ESTALE, "Stale file handle", "x/y"), "x/y was lost by its network"),
    (OSError(errno.EIO, "Input/output error", "x/y"), "x/y failed"),
    (OSError(errno.EFBIG, "File too large", "x/y"), "x/y is larger"),
    (OSError("a library's own words"), "a library's own words"),
    (MemoryError("Unable to allocate 9 GiB"), r"Out of memory \(Unable to allocate 9 GiB\)"),
    (RuntimeError("std::bad_alloc"), "Out of memory"),
    (UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates not allowed"), "not UTF-8"),
    (RecursionError("maximum recursion depth"), "nested too deeply"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("machine") / "model")


@pytest.fixture(scope="module")
def engine(model: Path) -> Path:
    qdeploy.build(model, model.parent / "engine", strategy="fp32")
    return model.parent / "engine"


def raising(error: BaseException) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_every_error_of_the_machine(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, text in NAMED:
        monkeypatch.setattr(api, name, raising(error))
        assert main(COMMANDS[name]) == 2
        out, err = capsys.readouterr()
        assert out == "" and re.search(text, err) and "unexpectedly" not in err
    monkeypatch.setattr(api, name, raising(KeyboardInterrupt()))
    assert main(COMMANDS[name]) == 130


# What each function of the API calls first, so that the error comes from within it.
INNER = {
    "export": "qdeploy.exporter.export.export_checkpoint",
    "calibrate": "qdeploy.calibrate.run.calibrate_model",
    "analyze": "qdeploy.analyze.run.analyze_model",
    "build": "qdeploy.autotune.build.measures",
    "evaluate": "qdeploy.evaluate.run.evaluate_engine",
    "inspect": "qdeploy.deploy.inspect.inspect_path",
    "sweep": "qdeploy.sweep.run.run_sweep",
    "doctor": "qdeploy.deploy.doctor.diagnose",
    "demo": "qdeploy.demo.run_demo",
    "load": "qdeploy.evaluate.predictor.Predictor",
}
ARGUMENTS: dict[str, Any] = {
    "sweep": (["m", "s"], {"recipe": "r"}),
    **dict.fromkeys(("build", "export"), (["m", "e"], {})),
    **dict.fromkeys(("doctor", "demo"), ([], {})),
}


@pytest.mark.parametrize("name", INNER)
def test_the_python_functions_raise_errors_of_ours_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "export":
        pytest.importorskip("torch")
    for error, text in NAMED:
        monkeypatch.setattr(INNER[name], raising(error))
        given, named = ARGUMENTS.get(name, (["m"], {}))
        with pytest.raises(MachineError, match=text):
            getattr(api, name)(*given, **named)


# Standard streams


def run(*arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qdeploy", *arguments]
    given |= {"cwd": ROOT, "text": True, "stderr": subprocess.PIPE, "timeout": 120}
    return subprocess.run(command, **given)


def built(model: Path, output: Path, streams: str) -> int:
    """The exit code of a build whose streams a shell led elsewhere."""
    command = [sys.executable, "-m", "qdeploy", "build", str(model), str(output)]
    line = f"{shlex.join(command)} --strategy fp32 {streams}"
    return subprocess.run(["sh", "-c", line], cwd=ROOT, timeout=120).returncode


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("arguments", [["inspect"], ["inspect", "--json", "-"], ["--help"]])
def test_a_full_standard_output_is_said(arguments: list[str], engine: Path) -> None:
    if arguments[0] == "inspect":
        arguments = [*arguments, str(engine)]
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "Error: Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str, model: Path, tmp_path: Path) -> None:
    """No file of the build gets the number of a closed one either, with what libraries print."""
    assert built(model, tmp_path / "e", closed) == 0
    manifest = json.loads((tmp_path / "e" / "qdeploy.json").read_text())
    assert manifest["strategy"] == "fp32"
    assert qdeploy.inspect(tmp_path / "e")["kind"] == "engine"


def test_a_reader_that_leaves_does_not_stop_the_work(model: Path, tmp_path: Path) -> None:
    assert built(model, tmp_path / "e", "2>&1 | true") == 0
    assert qdeploy.inspect(tmp_path / "e")["kind"] == "engine"


# Files of a report


@pytest.mark.parametrize("kind", ["device", "pipe", "link"])
def test_json_into_what_is_no_file_leaves_it_what_it_is(
    kind: str, engine: Path, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    if kind == "device":
        place = Path(os.devnull)
    elif kind == "link":
        (tmp_path / "real.json").touch()
        place.symlink_to(tmp_path / "real.json")
    else:
        os.mkfifo(place)
        reader = subprocess.Popen(["cat", str(place)], stdout=subprocess.PIPE, text=True)
    assert main(["inspect", str(engine), "-q", "--json", str(place)]) == 0
    if kind == "device":
        assert place.is_char_device()
    elif kind == "link":
        assert place.is_symlink() and json.loads((tmp_path / "real.json").read_text())
    else:
        assert json.loads(reader.communicate(timeout=20)[0])["kind"] == "engine"


def test_an_older_report_survives_a_full_disk_and_the_table_is_printed(
    engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disk", 4) as disk:
        (disk / "r.json").write_text('{"old": true}')
        assert main(["inspect", str(engine), "--json", str(disk / "r.json")]) == 2
        assert (disk / "r.json").read_text() == '{"old": true}'
        assert [path.name for path in disk.iterdir()] == ["r.json"]
    out, err = capsys.readouterr()
    assert "fp32 for ort-cpu" in out and "is full" in err and "r.json was not written" in err


def test_a_report_that_cannot_be_written_is_printed_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def sweep(*_: object, **__: object) -> None:
        error = OutputError("--html x was not written.")
        error.report = {"kind": "sweep"}
        raise error

    monkeypatch.setattr(api, "sweep", sweep)
    monkeypatch.setattr("qdeploy.cli.tables.sweep", lambda result: print("the table"))
    recipe = ["sweep", "m", "s", "--recipe", "r", "--json", str(tmp_path / "r.json")]
    assert main(recipe) == 2
    out, err = capsys.readouterr()
    assert out == "the table\n" and err == "Error: --html x was not written.\n"
    assert json.loads((tmp_path / "r.json").read_text()) == {"kind": "sweep"}


def test_what_stands_on_disk_is_said_when_the_report_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def build(*_: object, **__: object) -> dict[str, Any]:
        (tmp_path / "r").rmdir()
        return {}

    (tmp_path / "r").mkdir()
    monkeypatch.setattr(api, "build", build)
    assert main(["build", "m", "out", "-q", "--json", str(tmp_path / "r" / "x.json")]) == 2
    err = capsys.readouterr().err
    assert "x.json was not written" in err and err.endswith(" All the same: out was written.\n")


def test_a_gate_that_fails_beside_is_still_a_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "sweep", raising(GateError("not held", {"kind": "sweep"})))
    monkeypatch.setattr("qdeploy.cli.tables.sweep", lambda result: None)
    assert main(["sweep", "m", "s", "--recipe", "r"]) == 1


# Limits of the process, as a shell or a container sets them


LIMITED = """
import resource, sys
{limit}
from qdeploy.cli import main
sys.exit(main(sys.argv[1:]))
"""
FILES = "resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))"
SIZE = "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))"
MEMORY = (
    "import onnxruntime, qdeploy.cli, qdeploy.deploy.build, qdeploy.evaluate.run\n"
    "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
    "resource.setrlimit(resource.RLIMIT_AS, (used + {more} * 10**6,) * 2)"
)


def limited(limit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED.format(limit=limit), *arguments, "-q"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_limit_of_file_sizes_is_told(tmp_path: Path) -> None:
    model_directory(tmp_path / "m")
    done = limited(SIZE, "build", str(tmp_path / "m"), str(tmp_path / "out"))
    assert done.returncode == 2, done.stderr
    assert "larger than files may be" in done.stderr or "too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("files", [4, 6, 8])
def test_a_limit_of_open_files_is_told(files: int, tmp_path: Path) -> None:
    model_directory(tmp_path / "m")
    limit = FILES.format(files=files)
    done = limited(limit, "build", str(tmp_path / "m"), str(tmp_path / "out"), "--strategy", "fp32")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0 or re.search("oo many|cannot be", done.stderr), done.stderr


@pytest.mark.parametrize("more", [1, 40])
def test_short_memory_is_told_or_is_enough(more: int, engine: Path) -> None:
    """No crash of ours; what a library aborts by itself has a signal for an exit code."""
    done = limited(MEMORY.format(more=more), "eval", str(engine), "--no-latency")
    assert done.returncode != EX_SOFTWARE, done.stderr
    if done.returncode > 0:
        assert "Traceback" not in done.stderr


def test_a_full_temporary_directory_is_not_a_damaged_engine(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, kilobytes in enumerate((12, 90)):
        with mounted(tmp_path / f"t{number}", kilobytes) as disk:
            monkeypatch.setattr(tempfile, "tempdir", str(disk))
            try:
                qdeploy.evaluate(engine, latency=False, limit=4)
            except QDeployError as error:
                text = str(error)
                assert "temporary directory" in text and str(disk) in text
                assert "build it again" not in text
            assert not [path.name for path in disk.iterdir()]


DROPPED = """
import os, sys, tempfile
sys.dont_write_bytecode = True
import encodings.utf_8_sig, encodings.ascii, encodings.idna
import qdeploy.cli, qdeploy.api, qdeploy.deploy.build, qdeploy.deploy.inspect, onnxruntime
import qdeploy.evaluate.run, qdeploy.calibrate.run, tokenizers
os.setgid(65534); os.setuid(65534)
sys.exit(qdeploy.cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="drops its rights")
@pytest.mark.parametrize(
    ("closed", "text"),
    [
        ("m/model.onnx", "model.onnx cannot be read: Permission denied"),
        ("m", "/m' is not readable"),
    ],
)
def test_an_input_that_may_not_be_read_is_blamed_and_not_the_output(closed: str, text: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        home = Path(name)
        home.chmod(0o777)
        model_directory(home / "m")
        (home / closed).chmod(0o600)
        arguments = ["build", str(home / "m"), str(home / "out"), "--strategy", "fp32", "-q"]
        done = subprocess.run(
            [sys.executable, "-c", DROPPED, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": "/tmp"},
            timeout=120,
        )
        assert done.returncode == 2 and re.search(text, done.stderr), done.stderr
        assert sorted(path.name for path in home.iterdir()) == ["m"]


# Signals


def test_handlers_are_those_of_before_and_ignored_signals_stay_so() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    assert {n: signal.getsignal(n) for n in before} == before


def test_importing_the_library_changes_no_handler() -> None:
    script = (
        "import signal\nall = [signal.getsignal(n) for n in (2, 15, 1)]\n"
        "import qdeploy, qdeploy.api, qdeploy.cli\n"
        "assert all == [signal.getsignal(n) for n in (2, 15, 1)]"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_further_signals_leave_the_cleanup_alone_for_a_while() -> None:
    asked = Asked()
    with pytest.raises(KeyboardInterrupt):
        asked.handle(signal.SIGTERM, None)
    asked.handle(signal.SIGINT, None)
    assert asked.exit_code == 143 and asked.word == "Ended by SIGTERM"
    asked._at -= 60
    with pytest.raises(KeyboardInterrupt):  # whatever swallowed the first one
        asked.handle(signal.SIGINT, None)
    assert asked.exit_code == 143


def test_an_error_that_a_signal_became_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def inspect(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)  # in this thread: kill may pick another, later
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(api, "inspect", inspect)
    assert main(["inspect", "x"]) == 143
    assert capsys.readouterr().err == "Ended by SIGTERM: nothing was written.\n"
    assert kept.notes() == []
