"""`bundle_engine`: an engine directory → a directory that a server or a library loads as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qdeploy.bundles.formats import FORMATS
from qdeploy.bundles.options import BundleOptions
from qdeploy.bundles.source import Source
from qdeploy.files.artifact import read_manifest, write_manifest
from qdeploy.files.integrity import SHA256, verify
from qdeploy.files.output import check_apart, check_output
from qdeploy.files.publish import staged
from qdeploy.head import head_of
from qdeploy.machine.remedies import require
from qdeploy.options import given_or
from qdeploy.schemas.built import Bundled
from qdeploy.types import PathLike

KIND = "bundle"


def bundle_engine(
    engine_dir: PathLike,
    out: PathLike,
    options: BundleOptions | None = None,
    *,
    force: bool = False,
    **fields: object,
) -> Bundled:
    """Lay an engine out for what serves it; result and errors as `qdeploy.api.bundle`."""
    asked = given_or(BundleOptions, options, fields)
    require("onnx_ir")
    directory, target = Path(engine_dir), Path(out)
    check_apart(target, [directory])
    check_output(target, KIND, force=force)
    manifest = read_manifest(directory, "engine")
    verify(directory, manifest, sorted(manifest.get("files", {})), how=SHA256)
    source = Source(directory, manifest, head_of(directory, manifest))
    with staged(target, KIND, force=force) as work:
        use = FORMATS[asked.format](source, work)
        engine = {"path": str(engine_dir), "strategy": manifest["strategy"]}
        write_manifest(work, KIND, {"format": asked.format, "engine": engine})
    place = target.resolve()
    return {
        "kind": "bundle",
        "format": asked.format,
        "engine": str(engine_dir),
        "out": str(out),
        "use": _placed(use, {"out": out, "parent": place.parent, "name": place.name}),
    }


def _placed(use: str, places: Mapping[str, PathLike]) -> str:
    """A text with the place of the bundle in it."""
    for name, place in places.items():
        use = use.replace(f"{{{name}}}", str(place))
    return use
