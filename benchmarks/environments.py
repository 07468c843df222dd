"""What each installation weighs: fresh environments, one for each set of extras.

    python benchmarks/environments.py                    # prints a table
    python benchmarks/environments.py --extras runtime   # of one

Each is made by `python -m venv` and `pip install`, and measured by the sizes of the files in its
site-packages (without pip's own), 10⁶ bytes. pip's settings (PIP_EXTRA_INDEX_URL, pip.conf) hold:
whether torch is a build for CPUs depends on the index that it comes from.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETS = ("runtime", "openvino", "export,cpu", "export,cpu,openvino,report,sweep,dev")
_OF_PIP = ("pip", "setuptools", "wheel", "_distutils_hack", "pkg_resources")
_LARGEST = 6


def measure(extras: str, folder: Path) -> dict[str, int]:
    """Bytes of each package of a fresh environment, by its folder in site-packages."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pip += ["-c", ROOT / "constraints.txt"]
    if "export" in extras.split(","):
        subprocess.run([*pip, "torch"], check=True)  # as the Makefile does
    subprocess.run([*pip, f"{ROOT}[{extras}]"], check=True)
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", place], text=True).strip())
    sizes = {entry.name: _bytes(entry) for entry in packages.iterdir()}
    return {n: s for n, s in sizes.items() if not n.startswith(_OF_PIP)}


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", nargs="*", default=SETS)
    parser.add_argument("--json", type=Path, help="file for all sizes")
    args = parser.parse_args()
    found: dict[str, dict[str, int]] = {}
    for extras in args.extras:
        with tempfile.TemporaryDirectory() as folder:
            found[extras] = measure(extras, Path(folder))
        largest = sorted(found[extras].items(), key=lambda item: -item[1])[:_LARGEST]
        named = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in largest)
        print(
            f"{extras}: {sum(found[extras].values()) / 1e6:.0f} MB (largest: {named})", flush=True
        )
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
