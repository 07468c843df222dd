"""README.md and predict.py of engine directories, run where no qdeploy, torch or onnx is."""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.autotune.timing import keep
from qdeploy.deploy import predict_lines, predict_template
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.engine_readme import readme
from qdeploy.deploy.predict_script import predict_script
from qdeploy.errors import QDeployWarning
from qdeploy.files.artifact import read_manifest, sha256_file
from qdeploy.files.integrity import verify
from qdeploy.head import SPANS, TOKENS
from tests import manifests
from tests.deploy.conftest import Built, Source
from tests.deploy.head_engines import HEADS, LONG, TARGETS, TEXTS, Engines, needs
from tests.evaluate.heads import PAIRS
from tests.modules import importing

# Heads are asked for texts and for pairs, whatever the rows that calibrated them were.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*are answered, and this engine is for:qdeploy.errors.QDeployWarning"
)

# What an environment that runs engines does not have.
_ABSENT = ("qdeploy", "torch", "transformers", "onnx", "onnx_ir", "msgspec", "click")
# Runs a script once for each list of words that it is given as JSON.
_RUN = f"""import json, runpy, sys
sys.modules.update(dict.fromkeys({_ABSENT}))
script, runs = sys.argv[1], json.loads(sys.argv[2])
for words in runs:
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
"""


def answers(engine: Path, *words: str, text: str | None = None) -> list[dict[str, Any]]:
    """What predict.py prints, in a process without qdeploy."""
    return answers_of(engine, [words], text)


def answers_of(
    engine: Path, runs: Sequence[Sequence[str]], text: str | None = None
) -> list[dict[str, Any]]:
    """What it prints in several runs."""
    words = json.dumps([["--threads", "2", *run] for run in runs])
    command = [sys.executable, "-I", "-c", _RUN, str(engine / "predict.py"), words]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("head", [*HEADS, "roberta"])
def test_scores_are_those_of_qdeploy_to_the_last_bit(
    head: str, target: str, engines: Engines, tmp_path: Path
) -> None:
    """Single texts, and pairs of which some are cut; a line of JSON each."""
    needs(target)
    directory = engines(head, target)
    pairs = [*PAIRS, (LONG, "king"), ("a war", LONG), (LONG, LONG + "and more")]
    predictor = qdeploy.load(directory, threads=2)
    wanted = predictor.predict(TEXTS) + predictor.predict(pairs)
    rows = [{"text": text} for text in TEXTS], [{"text": a, "text_pair": b} for a, b in pairs]
    files = tmp_path / "texts.jsonl", tmp_path / "pairs.jsonl"
    for file, block in zip(files, rows, strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in block))
    found = answers_of(directory, [["--file", str(file)] for file in files])
    for prediction, answer in zip(wanted, found, strict=True):
        expected = asdict(prediction) | {"labels": list(prediction.labels)}
        if head != "multi":
            del expected["labels"]
        assert answer == expected


@pytest.mark.parametrize("target", TARGETS)
def test_entities_are_those_of_qdeploy(target: str, engines: Engines) -> None:
    needs(target)
    directory = engines(TOKENS, target)
    wanted = qdeploy.load(directory, threads=2).entities(TEXTS)
    found = answers(directory, *TEXTS)
    assert [row["entities"] for row in found] == [list(map(asdict, row)) for row in wanted]
    assert all(row["entities"] for row in found)


def test_the_script_of_a_token_classifier_refuses_pairs(engines: Engines) -> None:
    with importing(engines(TOKENS, "ort-cpu")):
        model = importlib.import_module("predict").Model(2)
        with pytest.raises(SystemExit, match="reads single texts, and pairs were given"):
            model.answers([("a text",), ("first", "second")])


@pytest.mark.parametrize("target", TARGETS)
def test_answers_to_questions_are_those_of_qdeploy(target: str, engines: Engines) -> None:
    """Contexts of one window, and of several."""
    needs(target)
    directory = engines(SPANS, target)
    pairs = [*PAIRS, ("who was king", f"{LONG} the old king."), ("a war", " . ".join([LONG] * 5))]
    wanted = qdeploy.load(directory, threads=2).answer(pairs)
    found = answers(directory, "--pairs", *(text for pair in pairs for text in pair))
    for row, said in zip(found, wanted, strict=True):
        assert row == {
            "answer": said.text, "score": pytest.approx(said.score, abs=1e-6),
            "start": said.start, "end": said.end,
        }  # fmt: skip


def test_no_answer_may_be_one_and_texts_alone_are_refused(engines: Engines) -> None:
    directory = engines(SPANS, "ort-cpu")
    with importing(directory):
        script: Any = importlib.import_module("predict")
        script.NO_ANSWER = -1000.0
        model = script.Model(2)
        (found,) = model.answers([PAIRS[0]])
        said = qdeploy.load(directory, threads=2).answer(
            *PAIRS[0], handle_impossible_answer=True, no_answer_threshold=-1000
        )
        assert (found["answer"], found["end"], said.text) == ("", 0, "")
        assert found["score"] == pytest.approx(said.score, abs=1e-6)
        with pytest.raises(SystemExit, match="pairs of texts are needed"):
            model.answers([("a text",)])
        with pytest.raises(SystemExit, match=r"has \d+ tokens, which leave its context no room"):
            model.answers([(" ".join([LONG] * 5), "the king")])
        with pytest.raises(SystemExit, match="A question has no text"):
            model.answers([(" ", "the king")])
        with pytest.raises(SystemExit, match="The context ' ' has no text"):
            model.answers([("who", " ")])


def test_texts_come_from_words_files_and_standard_input(engines: Engines, tmp_path: Path) -> None:
    directory = engines("classes", "ort-cpu")
    file = tmp_path / "x.txt"
    file.write_text("\ufeffthe river\r\na\tking", "utf-8")
    words = ["the river", "a\tking"], ["--file", str(file)], ["--pairs", "the river", "a king"]
    *found, pair = answers_of(directory, words)
    assert found[:2] == found[2:] and set(pair) == {"label", "score", "scores"}
    assert answers(directory, "--file", "-", text="the river\na\tking\n") == found[:2]
    assert answers(directory, "--pairs", "--file", "-", text="the river\ta king\n") == [pair]
    row = '{"text": "the river", "text_pair": "a king"}\n'
    assert answers(directory, "--jsonl", "--file", "-", text=row) == [pair]
    assert answers(directory, "--file", "-", text="") == []


def test_more_texts_than_a_block(engines: Engines, tmp_path: Path) -> None:
    """They are read, answered and written block by block, in order."""
    texts = [f"{TEXTS[at % 5][: 5 + at % 40]} {at}" for at in range(predict_lines.BLOCK_ROWS + 9)]
    (tmp_path / "x.txt").write_text("\n".join(texts))
    directory = engines("classes", "ort-cpu")
    wanted = qdeploy.load(directory, threads=2).predict(texts)
    found = answers(directory, "--file", str(tmp_path / "x.txt"))
    assert [row["scores"] for row in found] == [p.scores for p in wanted]


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ((), "", "give texts"),
        (("a", "--file", "-"), "", "give texts"),
        (("--pairs", "a"), "", "even number"),
        (("--file", "/nowhere/x.txt"), "", "/nowhere/x.txt is no file"),
        (("--file", "-", "--pairs"), "a\tb\nc\n", "line 2: two texts with a tab between was"),
        (("--file", "-", "--jsonl"), '{"text": "a"}\nb\n', 'line 2: {"text": "...", "text_pair"'),
        (("--file", "-", "--jsonl"), '{"text": 1}\n', "standard input, line 1"),
        (("--file", "-", "--jsonl"), '{"text": "\\ud800"}\n', "standard input, line 1"),
        (("--file", "-", "--jsonl"), "[]\n", "standard input, line 1"),
    ],
)
def test_wrong_input_is_said(
    words: Sequence[str], text: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """In this process: the engine is not run."""
    monkeypatch.setattr(sys, "argv", ["predict.py", *words])
    monkeypatch.setattr(
        predict_template, "lines_of", lambda _: iter(text.encode().splitlines(True))
    )
    monkeypatch.setattr(predict_template, "Model", _Echo)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", _Silent())
    with pytest.raises(SystemExit) as ended:
        predict_template.main()
    assert said in f"{ended.value}{capsys.readouterr().err}"


class _Echo:
    def __init__(self, threads: int | None) -> None:
        del threads

    def answers(self, rows: list[Any]) -> list[Any]:
        return rows


class _Silent:
    def write(self, _: str) -> None: ...

    def flush(self) -> None: ...

    def reconfigure(self, **_: str) -> None: ...


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("head", ["classes", "multi", "value", TOKENS, SPANS])
def test_scripts_are_clean_and_hold_what_they_need_alone(
    head: str, target: str, engines: Engines, tmp_path: Path
) -> None:
    needs(target)
    text = (engines(head, target) / "predict.py").read_text("utf-8")
    assert "# <" not in text and "# </" not in text and "ignore" not in text
    assert "PACKAGES" not in text and len(text.splitlines()) < (340 if head == SPANS else 270)
    other = "openvino" if target == "ort-cpu" else "onnxruntime"
    assert other not in text
    assert ("def find_entities" in text) == (head == TOKENS)
    (tmp_path / "predict.py").write_text(text)
    rules = "F,E4,E7,E9,B,UP,SIM,C4"
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", rules, str(tmp_path)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_names_of_a_checkpoint_are_no_code_and_no_markup(engines: Engines) -> None:
    directory = engines("classes", "ort-cpu")
    names = ['"]\nimport os  # ', "a'b\"c\\", "x | `y`\n# z \u202e"]
    fields = read_manifest(directory, "engine") | {"labels": names, "checkpoint": names[2]}
    script = predict_script(directory, fields)
    assert script is not None
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(script).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if node.targets[0].id.isupper() and not isinstance(node.value, ast.Call | ast.Attribute)
    }
    assert values["LABELS"] == names
    page = readme(directory, fields, read_certificate(directory), 1.0)
    assert "\u202e" not in page
    (line,) = [line for line in page.splitlines() if line.startswith("| classes |")]
    assert re.sub(r"\\.", "", line).count("|") == 3


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("head", ["classes", TOKENS])
def test_the_ways_of_the_readme_run_as_written(target: str, head: str, engines: Engines) -> None:
    needs(target)
    directory = engines(head, target)
    page = (directory / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 2
    for block in blocks:
        command = [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert ("logits [[" in done.stdout) == ("import qdeploy" not in block)
    (shell,) = re.findall(r"```sh\n(.*?)```", page, re.S)
    lines = [line for line in shell.splitlines() if line.startswith("python predict.py")]
    # kinds of rows, and --help: the embedded rows stood in, and tell nothing of single texts
    assert len(lines) == (2 if head == TOKENS else 3)
    for line in lines:
        command = ["sh", "-c", line.replace("python", sys.executable, 1)]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout, done.stderr


def test_the_readme_says_what_is_known(engine: Callable[..., Built]) -> None:
    built = engine(strategy="peg")
    page = (built.directory / "README.md").read_text("utf-8")
    assert page.startswith("# bert: an engine for ort-cpu\n")
    assert "A bert classifier, quantized to INT8 by `qdeploy build`." in page
    int8 = built.report["int8"]
    assert f"{int8['planned']} of {int8['planned']} planned GEMMs ran in INT8" in page
    assert f"SQNR of {built.report['noise']['sqnr_db']:.1f} dB" in page
    assert f"{built.report['size_mb']:.1f} MB" in page
    assert "| calibrated on | 16 rows of qnli\\-mini" in page
    for name in (path.name for path in built.directory.iterdir()):
        assert f"| `{name}` |" in page or name in ("README.md", "tokenizer_config.json")


def test_guides_are_listed_and_held_against_their_digests(engine: Callable[..., Built]) -> None:
    directory = engine(strategy="peg").directory
    manifest = read_manifest(directory, "engine")
    for name in ("README.md", "predict.py"):
        assert manifest["files"][name] == sha256_file(directory / name)
    verify(directory, manifest)


def test_a_model_that_brings_such_files_does_not_replace_them(bert: Source, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(bert.directory, model)
    for name in ("README.md", "predict.py"):
        (model / name).write_text("brought along")
    manifests.sign(model)
    build_engine(model, tmp_path / "engine", strategy="fp32", measure=False)
    for name in ("README.md", "predict.py"):
        assert "brought along" not in (tmp_path / "engine" / name).read_text()


def test_an_engine_that_was_chosen_says_what_was_measured_afterwards(
    engine: Callable[..., Built], tmp_path: Path
) -> None:
    noise: Any = {"rows": 7, "data": "mine.csv", "equal": False, "finite": True, "sqnr_db": 12.25}
    noise |= {"flipped": 1, "answers": 7, "simulated": False, "max_abs_diff": 0.3, "warning": None}
    output = tmp_path / "kept"
    keep(engine(strategy="w8a8").directory, output, {"noise": noise}, force=False)
    page = (output / "README.md").read_text("utf-8")
    assert "SQNR of 12.2 dB against FP32 on 7 rows of mine.csv; 1 of 7 answers differ" in page
    verify(output, read_manifest(output, "engine"))


@pytest.mark.parametrize("target", ["tensorrt", "ort-tensorrt", "ort-cuda"])
def test_gpu_targets_say_how_they_run(target: str, bert: Source, tmp_path: Path) -> None:
    """Dry runs: nothing is compiled without a GPU, and no command needs what is not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QDeployWarning)
        options: dict[str, Any] = {"statistics": bert.statistics, "measure": False}
        build_engine(
            bert.directory, tmp_path / "e", strategy="w8a8", target=target, dry_run=True, **options
        )
    assert not (tmp_path / "e" / "predict.py").exists()
    page = (tmp_path / "e" / "README.md").read_text("utf-8")
    assert "dry run" in page and "predict.py" not in page
    assert "qdeploy eval . --simulate" in page
    assert "model.plan" not in page and "qdeploy.load" not in page


@pytest.mark.parametrize("head", ["classes", "roberta"])
def test_the_readme_cuts_rows_as_the_tokenizer_does(head: str, engines: Engines) -> None:
    page = (engines(head, "ort-cpu") / "README.md").read_text("utf-8")
    limit = read_manifest(engines(head, "ort-cpu"), "engine")["max_length"]
    side = ', direction="left"' if head == "roberta" else ""  # one that cuts off the left
    assert f"tokenizer.enable_truncation({limit}{side})\n" in page
