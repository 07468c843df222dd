"""Environments of other libraries, whose requirements do not agree with qdeploy's.

Each is made on first use from a list of requirements, beside the checkout, and shared with the
benchmarks. No part of qdeploy is installed there: what it writes has to be enough.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SENTENCE = ROOT / "benchmarks" / "sentence-requirements.txt"  # with Optimum and Optimum Intel
TRITON = ROOT / "benchmarks" / "triton-requirements.txt"
INSTALL_SECONDS = 1800  # 1 GB of wheels on a busy machine


def python_of(requirements: Path) -> Path:
    """Python of the environment of a list of requirements; skips where it cannot be made."""
    home = ROOT / f".venv-{requirements.name.removesuffix('-requirements.txt')}"
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    done = home / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if done.is_file() and done.read_text("utf-8") == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    # torch first: pip then takes the index's build for CPUs
    torch = [line for line in requirements.read_text("utf-8").split() if line.startswith("torch==")]
    commands = [[sys.executable, "-m", "venv", str(home)]]
    commands += [[*pip, *torch]] if torch else []
    commands.append([*pip, "-r", str(requirements)])
    try:
        for command in commands:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or error).strip().splitlines()
        pytest.skip(f"packages cannot be had here: {said[-1] if said else error}")
    done.write_text(wanted, "utf-8")
    return python
