"""SHA-256 of every model.onnx and plan.json that the tiny encoders give: to compare two checkouts.

    python -m tests.golden.digests > before.txt     # the same afterwards, and diff

Eight families, every target, the plans of `tests.golden.graphs`: minutes, so no test. The same
machine and the same packages give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from pathlib import Path

from qdeploy.calibrate.run import calibrate_model
from qdeploy.deploy.build import build_engine
from qdeploy.errors import QDeployError, QDeployWarning
from qdeploy.exporter.export import export_checkpoint
from tests.golden.graphs import PLANS
from tests.tiny import FAMILIES, tiny_checkpoint

TARGETS = ("ort-cpu", "openvino", "ort-cuda", "ort-tensorrt", "tensorrt")


def main() -> None:
    warnings.simplefilter("ignore", QDeployWarning)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for family in FAMILIES:
            export_checkpoint(tiny_checkpoint(home / family, family), home / f"{family}-model")
            calibrate_model(home / f"{family}-model", data="qnli-mini", calibration_rows=16)
            for target in TARGETS:
                for plan in PLANS:
                    print(family, target, plan, *_digests(home, family, target, plan), flush=True)


def _digests(home: Path, family: str, target: str, plan: str) -> list[str]:
    """Of the graph, its weight file where there is one, and the plan; or the first words of why
    there is none."""
    engine = home / f"{family}-{target}-{plan}"
    statistics = next((home / f"{family}-model" / "statistics").glob("*.npz"))
    calibrated = PLANS[plan]["strategy"] in ("w8a8", "peg")
    options = dict(PLANS[plan]) | ({"statistics": statistics} if calibrated else {})
    try:
        build_engine(
            home / f"{family}-model", engine, target=target, dry_run=True, measure=False, **options
        )
    except QDeployError as error:
        return [str(error).replace(str(home), "")[:60]]
    found = [_sha(path.read_bytes()) for path in sorted(engine.glob("model.onnx*"))]
    return [*found, _sha(json.dumps(json.loads((engine / "plan.json").read_text())).encode())]


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


if __name__ == "__main__":
    main()
