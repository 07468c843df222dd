"""Whether what stands on disk is whole: read without any of qdeploy's own code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

MANIFEST = "qdeploy.json"
# What others write into a temporary directory: ONNX Runtime's telemetry, of checkouts that let it.
_NOT_OURS = (".ses",)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Names and contents of all files below a folder, or of a file; links are followed."""
    if folder.is_file():
        return {"": folder.read_bytes()}
    found = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def names(*folders: Path) -> set[str]:
    """Everything below folders that anybody may have left, links and sockets too."""
    return {
        f"{folder.name}/{path.relative_to(folder)}"
        for folder in folders
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.name not in _NOT_OURS
    }


def whole_directory(directory: Path) -> bool:
    """Whether each file that a model's or engine's manifest lists is there with its sha256."""
    try:
        files = json.loads((directory / MANIFEST).read_bytes())["files"]
        return bool(files) and all(
            hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
            for name, digest in files.items()
        )
    except (OSError, ValueError, KeyError):
        return False


def cut_files(*folders: Path) -> list[str]:
    """Files with a final name that are not whole: JSON, NumPy archives, pages; not in `tmp`."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            if parts[0] == "tmp" or any(part.startswith(".") for part in parts):
                continue
            if path.is_file() and not _whole_file(path):
                found.append(f"{path.name} ({path.stat().st_size} bytes)")
    return found


def _whole_file(path: Path) -> bool:
    if path.suffix == ".json":
        return read_json(path) is not None
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        except (zipfile.BadZipFile, OSError, EOFError):
            return False
    if path.suffix == ".html":
        return path.read_bytes().rstrip().endswith(b"</html>")
    return True


def read_json(path: Path) -> Any:
    """None of what is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def sign(path: Path) -> None:
    """Put a file's new hash into the manifest beside it, as whoever made the directory would."""
    manifest = json.loads((path.parent / MANIFEST).read_text("utf-8"))
    content = path.read_bytes() if path.is_file() else b""
    manifest["files"][path.name] = hashlib.sha256(content).hexdigest()
    if "sizes" in manifest:
        manifest["sizes"][path.name] = len(content)
    (path.parent / MANIFEST).write_text(json.dumps(manifest))


def hidden(*folders: Path) -> list[str]:
    """Work folders, leases and other hidden files that runs left below folders."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            name = path.name
            if name not in _NOT_OURS and (
                name.startswith((".", "qdeploy-")) or name.endswith((".partial", ".tmp"))
            ):
                found.append(str(path.relative_to(folder)))
    return found


def atime_moves(folder: Path) -> bool:
    """Whether this file system notes when a file is read."""
    path = watched(folder / "atime", b"x")
    path.read_bytes()
    return was_read(path)


def watched(path: Path, content: bytes) -> Path:
    """A file whose time of access is long past, so that any reading moves it."""
    path.write_bytes(content)
    os.utime(path, (1, path.stat().st_mtime))
    return path


def was_read(path: Path) -> bool:
    """Whether anybody has read a `watched` file since."""
    return path.stat().st_atime > 1
