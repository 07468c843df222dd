"""A small HTTP server around an engine's `predict.py`: batching, health, metrics, Dockerfile."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from qdeploy.bundles.source import Source, refuse_scriptless
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.files.artifact import MANIFEST

_APP = "app.py"
_DOCKERFILE = """FROM python:3.11-slim
WORKDIR /engine
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
EXPOSE 8000
HEALTHCHECK CMD python -c "import urllib.request as r; r.urlopen('http://localhost:8000/health')"
CMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"]
"""


def fastapi(source: Source, work: Path) -> str:
    """Every file of the engine, with app.py, requirements.txt and a Dockerfile."""
    refuse_scriptless(source)
    for name in source.manifest.get("files", {}):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.directory / name, work / name)
    shutil.copyfile(source.directory / MANIFEST, work / f"engine-{MANIFEST}")
    app = resources.files("qdeploy.bundles").joinpath("fastapi_app.py").read_text("utf-8")
    (work / _APP).write_text(app, "utf-8")
    packages = [*TARGETS[source.manifest["target"]].snippet().packages, "fastapi", "uvicorn"]
    (work / "requirements.txt").write_text("\n".join(packages) + "\n", "utf-8")
    (work / "Dockerfile").write_text(_DOCKERFILE, "utf-8")
    return "cd {out} && pip install -r requirements.txt && uvicorn app:app"
