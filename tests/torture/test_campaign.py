"""A seeded part of the campaign: nothing of it may be bad. `make torture` runs the whole."""

from __future__ import annotations

import pytest

from tests.exports import Exports
from tests.torture.__main__ import CLASSES, ROOT, run_class
from tests.torture.ground import Ground, make_ground

pytestmark = pytest.mark.torture


@pytest.fixture(scope="module")
def ground(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("torture"), ROOT, exported)


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_bad(ground: Ground, name: str) -> None:
    tally = run_class(ground, name, 0, "quick")
    assert not tally.bad, "\n".join(tally.notes)
    if tally.skipped:
        pytest.skip("; ".join(tally.skipped))
    assert tally.counts
