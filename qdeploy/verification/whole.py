"""Whether the files of an engine directory are those that were built, and no more."""

from __future__ import annotations

import re
from pathlib import Path

from qdeploy.figures import counted, megabytes
from qdeploy.files import own_digest
from qdeploy.files.artifact import MANIFEST, SIGNATURE, open_regular, read_manifest, sha256_file
from qdeploy.names import few
from qdeploy.schemas.manifest import EngineManifest

_NAMED = 3
EARLIER = "an earlier qdeploy built the engine. Build it again with this version"
# What git and the hub's client put into a directory; nothing of it is ever opened here.
OF_HUBS = (".git", ".gitattributes", ".gitignore", ".github", ".cache")
_OTHER_KIND = re.compile(rb'^  "kind": "(model|bundle|demo)"', re.MULTILINE)


def faults_of(directory: Path) -> tuple[list[str], str]:
    """What is wrong with the files, a clause each; and how many there are, for where nothing is.

    Every byte counts: a file by its sha256 in qdeploy.json, and that by the digest of itself.

    Raises:
        ModelError: not an engine directory.
    """
    try:
        with open_regular(directory / MANIFEST) as stream:
            content = stream.read()
    except OSError:
        content = b""  # which `read_manifest` names
    if content and not own_digest.holds(content):
        if _OTHER_KIND.search(content):
            read_manifest(directory, "engine")  # says which kind it is of
        if not own_digest.there(content):
            return [
                f"{MANIFEST} has no digest of itself: it was written again by something else, or "
                f"{EARLIER}"
            ], ""
        return [f"{MANIFEST} is not as `qdeploy build` wrote it"], ""
    manifest = read_manifest(directory, "engine")
    faults = [
        f"{name} {fault}"
        for name in sorted(listed(manifest))
        if (fault := _fault(directory / name, listed(manifest)[name]))
    ]
    known = {*listed(manifest), MANIFEST, SIGNATURE}
    more = {str(path.relative_to(directory)) for path in own_files(directory)} - known
    faults += [f"{name} came later" for name in sorted(more)]
    size = sum(manifest.get("sizes", {}).values()) / 1e6
    return faults, f"{counted(len(known) - 1, 'file')}, {megabytes(size)} MB"


def own_files(directory: Path) -> list[Path]:
    """What stands in a directory, but for folders and what `OF_HUBS` names.

    Links and pipes count too, whatever they lead to. A signature is over these, but for itself.
    """
    return [
        path
        for path in directory.rglob("*")  # which follows no links
        if path.relative_to(directory).parts[0] not in OF_HUBS
        and (path.is_symlink() or not path.is_dir())
    ]


def listed(manifest: EngineManifest) -> dict[str, str]:
    """sha256 by name."""
    return manifest.get("files", {})


def named(faults: list[str]) -> str:
    """The first faults, and how many more there are."""
    return few(faults, _NAMED, "; ")


def _fault(path: Path, digest: str) -> str:
    try:
        return "" if sha256_file(path) == digest else "is not the file that was built"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
