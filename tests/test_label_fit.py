"""A build says of labels what the evaluation after it would stop at."""

from __future__ import annotations

from pathlib import Path

import pytest

import qdeploy
from qdeploy.errors import DataError
from tests.calibrate.encoder import model_directory

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two classes, entailment and not_entailment."""
    return model_directory(tmp_path_factory.mktemp("labels") / "model")


def rows(path: Path, classes: tuple[str, ...]) -> Path:
    lines = [f"which {i}?,it is {'x ' * (i % 7)}.,{classes[i % len(classes)]}" for i in range(40)]
    path.write_text("\n".join(["question,sentence,label", *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("classes", "fits"),
    [
        (("entailment", "not_entailment"), True),
        (("Not Entailment", "ENTAILMENT"), True),
        (("0", "1"), True),
        (("LABEL_1", "LABEL_0"), True),
        (("pos", "neg"), False),
        (("1", "2"), False),
        (("entailment", "neutral", "not_entailment"), False),
    ],
)
def test_what_build_says_is_what_eval_says(
    classes: tuple[str, ...], fits: bool, model: Path, tmp_path: Path
) -> None:
    data = rows(tmp_path / "rows.csv", classes)
    built = qdeploy.build(model, tmp_path / "e", data=str(data), calibration_rows=8, measure=False)
    fault = built["label_fault"]
    assert (fault is None) == fits
    if fits:
        report = qdeploy.evaluate(tmp_path / "e", latency=False)
        assert report["metrics"]["n"] == 32
        return
    with pytest.raises(DataError) as stopped:
        qdeploy.evaluate(tmp_path / "e", latency=False)
    # the rows that calibrated are left out there: the first that does not fit may be another
    assert fault.partition("knows")[2] == str(stopped.value).partition("knows")[2] != ""
    assert qdeploy.evaluate(tmp_path / "e", latency=False, accuracy=False)["metrics"] is None


def test_rows_without_labels_and_no_rows_have_no_fault(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("question,sentence\n" + "who?,it is he.\n" * 12)
    for name, source in (("a", str(data)), ("b", "qnli-mini")):
        built = qdeploy.build(
            model, tmp_path / name, data=source, calibration_rows=4, measure=False
        )
        assert built["label_fault"] is None
