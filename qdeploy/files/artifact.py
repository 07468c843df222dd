"""What stands in every directory of ours: JSON, a `qdeploy.json` that says what it is, a graph."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, overload

from qdeploy.errors import ModelError
from qdeploy.files import own_digest
from qdeploy.machine.faults import named
from qdeploy.schemas.checked import checked, decode
from qdeploy.schemas.manifest import (
    Contents,
    EngineManifest,
    ModelManifest,
    require_possible,
    require_possible_engine,
)
from qdeploy.text import is_utf8, json_text

if TYPE_CHECKING:
    import onnx_ir as ir

SCHEMA = 1
MANIFEST = "qdeploy.json"
SIGNATURE = "model.sig"  # of `qdeploy sign`: it signs the manifest, which does not list it
_STEM = 50  # characters, of four bytes at most, of a name that a temporary one keeps
# Above this many bytes of weights they go to model.onnx.data: protobuf cannot hold 2 GiB.
EXTERNAL_DATA_BYTES = 1_500_000_000
_SMALL_BYTES = 256  # of tensors that stay in the file where others do not
_PACKAGES = (
    "qdeploy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "openvino",
    "torch",
    "transformers",
    "peft",
    "numpy",
)


def sha256_file(path: Path) -> str:
    """Hex digest of a file."""
    with open_regular(path) as stream:
        return sha256_stream(stream)


def sha256_stream(stream: BinaryIO) -> str:
    """Hex digest of what is left of a stream, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def open_regular(path: Path) -> BinaryIO:
    """A file to read; nothing that one would wait at, as at a pipe that nobody writes into.

    Raises:
        OSError: it is none, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(descriptor, "rb")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: an older one of that name stays until then.

    Raises:
        OSError: it cannot be written, with its name; nothing is left behind.
    """
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name to write a file under, which takes `path` when the block ends well.

    Raises:
        OSError: with the name of the file; nothing is left behind.
    """
    partial = path.with_name(f".{path.name[:_STEM]}.{secrets.token_hex(6)}.partial")
    try:
        yield partial
        with contextlib.suppress(FileNotFoundError):  # a private file stays private
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a write says no name, and an open that of the partial
            named(error, path)
        raise


def write_json(
    path: Path, value: object, finish: Callable[[bytes], bytes] = lambda content: content
) -> None:
    """Write JSON, whole or not at all, with sorted keys: equal values give equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(path, finish(json_text(text).encode()))


def read_json(path: Path, remedy: str = "Make it anew.") -> Any:
    """Read JSON.

    Args:
        remedy: what to do where it is damaged.

    Raises:
        ModelError: it is missing, cannot be read, or is no JSON.
    """
    try:
        with open_regular(path) as stream:
            raw = stream.read()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist.") from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}. Look at its permissions, and whether it is "
            "a file."
        ) from error
    return decode(raw, path, remedy)


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that decide what a build produces."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write_manifest(directory: Path, kind: str, fields: Mapping[str, object]) -> None:
    """Write `qdeploy.json`: schema, kind, versions, sha256 and size of each file, and `fields`.

    `sealed` holds a digest of each of these fields, and `digest` that of this file: a file has its
    sha256 here, and this one has nowhere else to be held against.
    """
    paths = [p for p in sorted(directory.rglob("*")) if p.is_file() and p.name != MANIFEST]
    names = {str(path.relative_to(directory)): path for path in paths}
    base = {
        "schema": SCHEMA,
        "kind": kind,
        "versions": package_versions(),
        "files": {name: sha256_file(path) for name, path in names.items()},
        "sizes": {name: path.stat().st_size for name, path in names.items()},
    }
    own = {*base, "sealed", own_digest.FIELD}
    others = {name: value for name, value in fields.items() if name not in own}
    sealed = {name: _digest(value) for name, value in others.items()}
    whole = others | base | {"sealed": sealed, own_digest.FIELD: own_digest.BLANK}
    write_json(directory / MANIFEST, whole, own_digest.stamped)


def add_to_manifest(
    directory: Path,
    kind: Literal["model", "engine"],
    fields: Mapping[str, object],
    files: Iterable[str] = (),
) -> None:
    """Put fields into a manifest that stands; whatever else is in it stays.

    Args:
        files: names of those that were written anew.

    Raises:
        ModelError: see `read_manifest`.
    """
    found: Contents = read_manifest(directory, kind)
    anew = {name: directory / name for name in files}
    digests = found.get("files", {}) | {name: sha256_file(path) for name, path in anew.items()}
    sizes = found.get("sizes", {}) | {name: path.stat().st_size for name, path in anew.items()}
    sealed = found.get("sealed", {}) | {name: _digest(value) for name, value in fields.items()}
    whole = {**found, **fields, "files": digests, "sizes": sizes, "sealed": sealed}
    whole[own_digest.FIELD] = own_digest.BLANK
    write_json(directory / MANIFEST, whole, own_digest.stamped)


def _digest(value: object) -> str:
    """16 hex digits of a JSON value."""
    read_back = json.loads(json_text(json.dumps(value, ensure_ascii=False)))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()[:16]


def kind_of(directory: Path) -> str | None:
    """The kind that a directory's manifest names; None where it names none."""
    path = directory / MANIFEST
    found = read_json(path) if path.is_file() else None
    kind = found.get("kind") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) else None


@overload
def read_manifest(directory: Path, kind: Literal["model"]) -> ModelManifest: ...


@overload
def read_manifest(directory: Path, kind: Literal["engine"]) -> EngineManifest: ...


def read_manifest(
    directory: Path, kind: Literal["model", "engine"]
) -> ModelManifest | EngineManifest:
    """Read the manifest of a directory of this kind ("model" or "engine").

    Raises:
        ModelError: no such directory, no manifest, another kind, a newer schema, or a field that is
            missing or impossible.
    """
    maker = {"model": "qdeploy export", "engine": "qdeploy build"}[kind]
    path, remedy = directory / MANIFEST, f"Make the directory again with `{maker}`."
    if not is_utf8(directory):
        raise ModelError(
            f"{directory} has a name that is no UTF-8: no runtime opens it. Rename it."
        )
    if not directory.exists():
        raise ModelError(f"{directory} does not exist. Make the {kind} directory with `{maker}`.")
    if not path.is_file():
        raise ModelError(
            f"{directory} is no {kind} directory: it holds no {MANIFEST}. Make one with `{maker}`."
        )
    manifest = read_json(path, remedy)
    if not isinstance(manifest, dict):
        raise ModelError(f"{path} is damaged: it is no JSON object. {remedy}")
    if manifest.get("kind") != kind:
        article = "an" if kind == "engine" else "a"
        raise ModelError(
            f"{directory} is of kind '{manifest.get('kind')}', and {article} {kind} directory was "
            f"expected. Make one with `{maker}`."
        )
    schema = manifest.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ModelError(
            f"{directory} was written by a newer qdeploy. Use that version, or a later one."
        )
    found: ModelManifest | EngineManifest
    if kind == "model":
        found = checked(manifest, ModelManifest, path, remedy, require_possible)
    else:
        found = checked(manifest, EngineManifest, path, remedy, require_possible_engine)
    for name, digest in found.get("sealed", {}).items():
        if name not in manifest or _digest(manifest[name]) != digest:
            fact = "is another" if name in manifest else "is missing"
            raise ModelError(
                f"{path} is not as `{maker}` wrote it: {name} {fact}. {remedy} Or put the file "
                "back."
            )
    return found


def write_graph(model: ir.Model, path: Path, *, external_above: int | None = None) -> None:
    """Write an ONNX file; its weights stand beside it in `<name>.data` where they are many.

    Args:
        external_above: bytes of weights that are many; None for what a protobuf does not hold.

    Types and shapes of initializers are left out, since each tensor says its own: where they stand
    twice, `onnxruntime.quantization.quantize_dynamic` transposes one of the two and stops.
    """
    for value in model.graph.initializers.values():
        value.type = value.shape = None

    constants = (value.const_value for value in model.graph.initializers.values())
    size = sum(tensor.nbytes for tensor in constants if tensor is not None)
    limit = EXTERNAL_DATA_BYTES if external_above is None else external_above
    external = f"{path.name}.data" if size > limit else None
    save_graph(model, path, external)


def save_graph(model: ir.Model, path: Path, external: str | None) -> None:
    """Write an ONNX file.

    Args:
        external: name of the file beside it that weights stand in, of more than 256 bytes each;
            None for inside. Texts have no such form, and numbers no larger than they stay with
            them.
    """
    import onnx_ir as ir

    stored = [v.const_value for graph in model.graphs() for v in graph.initializers.values()]
    texts = [t.nbytes for t in stored if t is not None and t.dtype == ir.DataType.STRING]
    ir.save(model, path, external_data=external, size_threshold_bytes=max([_SMALL_BYTES, *texts]))
