"""A report in a real browser: its headline is seen, and nothing is on the console."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qdeploy.report.analysis import headline, page
from qdeploy.report.page import render
from tests.report.reports import analysis

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

BROWSER = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)"
)
SIZES = {"desk": "1200,900", "phone": "390,844"}


def browse(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Open a page without a window; the browser's own log goes to standard error."""
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += ["--enable-logging=stderr", "--log-level=0", f"--user-data-dir={path.parent / 'user'}"]
    return subprocess.run(
        [BROWSER, *flags, *arguments, path.as_uri()], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(render(page(analysis())), "utf-8")
    return path


@needs_browser
@pytest.mark.parametrize("size", SIZES)
def test_a_screenshot_shows_the_page(report: Path, tmp_path: Path, size: str) -> None:
    picture = tmp_path / "shot.png"
    done = browse(report, f"--window-size={SIZES[size]}", f"--screenshot={picture}")
    assert done.returncode == 0
    assert "CONSOLE" not in done.stderr
    pixels = picture.read_bytes()
    assert pixels.startswith(b"\x89PNG") and len(pixels) > 10_000  # not an empty page


@needs_browser
def test_the_browser_reads_the_headline(report: Path) -> None:
    done = browse(report, "--dump-dom")
    found = re.search(r"<h1>(.*?)</h1>", done.stdout, re.DOTALL)
    assert found is not None and found[1].strip() == headline(analysis())
    assert "CONSOLE" not in done.stderr


@needs_browser
def test_a_script_error_would_be_seen(tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<h1>x</h1><script>nonsense()</script>")
    assert "CONSOLE" in browse(broken, "--dump-dom").stderr
