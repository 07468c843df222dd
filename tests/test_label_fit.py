"""A build says of labels what the evaluation after it would stop at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import qdeploy
from qdeploy.cli import main
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
    assert fault is not None
    # the rows that calibrated are left out there: the first that does not fit may be another
    texts = (str(fault), str(stopped.value))
    said, other = (re.sub(r"\d+ of \d+", "N of N", text) for text in texts)
    assert said.partition("knows")[2] == other.partition("knows")[2] != ""
    assert ("drop these rows" in fault) != ("Rename the classes" in fault or "from 0 up" in fault)
    assert qdeploy.evaluate(tmp_path / "e", latency=False, accuracy=False)["metrics"] is None


STRAYS = {
    "one class": ("unsure", 3, "3 of 40 rows have a class that it lacks: correct the labels, or"),
    "one row": ("unsure", 1, "1 of 40 rows has a class that it lacks: correct the label, or drop"),
    "blank": ("", 3, "column 'label' holds no class; 3 of 40 rows have none. Give these rows a"),
    "-1": ("-1", 1, "column 'label' holds no class; 1 of 40 rows have none. Give that row a"),
}


@pytest.mark.parametrize("case", STRAYS)
def test_a_stray_among_good_labels_is_dropped(
    case: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label, count, remedy = STRAYS[case]
    data = rows(tmp_path / "rows.csv", ("entailment", "not_entailment"))
    lines = data.read_text().splitlines()
    for at in range(count):
        lines[5 + 7 * at] = lines[5 + 7 * at].rpartition(",")[0] + f",{label}"
    data.write_text("\n".join(lines) + "\n")
    words = ["build", str(model), str(tmp_path / "e"), "--data", str(data), "--no-measure"]
    assert main([*words, "--calibration-rows", "8"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No accuracy can be measured on these rows:" in out and remedy in out
    assert "Rename the classes" not in out and "--no-accuracy" in out
    assert f"drop {'these rows' if count > 1 else 'th'}" in out
    with pytest.raises(DataError, match="or drop th"):
        qdeploy.evaluate(tmp_path / "e", data=str(data), latency=False)


MEANINGS = [
    (("0", "1"), "labels: 0 = entailment, 1 = not_entailment"),
    (("True", "False"), "labels: False = entailment, True = not_entailment"),
    (("LABEL_1", "LABEL_0"), "labels: LABEL_0 = entailment, LABEL_1 = not_entailment"),
    (("entailment", "Not Entailment"), None),
]


@pytest.mark.parametrize(("labels", "meaning"), MEANINGS)
def test_what_labels_mean_is_said(
    labels: tuple[str, ...],
    meaning: str | None,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = rows(tmp_path / "rows.csv", labels)
    for words in (
        ["build", str(model), str(tmp_path / "e"), "--data", str(data), "--no-measure"],
        ["eval", str(tmp_path / "e"), "--data", str(data), "--no-latency", "--baseline", "fp32"],
    ):
        assert main([*words, "--model", str(model)] if words[0] == "eval" else words) == 0
        err = capsys.readouterr().err
        if meaning is None:
            assert "labels: " not in err
        else:
            assert err.count(f"rows.csv, {meaning}\n") == 1, err


def test_rows_without_labels_and_no_rows_have_no_fault(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("question,sentence\n" + "who?,it is he.\n" * 12)
    for name, source in (("a", str(data)), ("b", "qnli-mini")):
        built = qdeploy.build(
            model, tmp_path / name, data=source, calibration_rows=4, measure=False
        )
        assert built["label_fault"] is None
