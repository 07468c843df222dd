"""Answers of engines beside the same checkpoint in torch, and those of files and `eval`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import qdeploy
from qdeploy.errors import DataError, GateError, PlanError, QDeployWarning
from qdeploy.evaluate.answer_quality import scores_of
from qdeploy.evaluate.spans import Answer
from qdeploy.schemas.quality import main_figure
from tests.evaluate.bag import engine_directory
from tests.evaluate.qa import FAMILIES, N_BEST, Reference, make_engines, questions
from tests.evaluate.row_files import answers, bag
from tests.once import Once

Home = Callable[[str], Path]
SAME = 1e-3  # of a sum of two logits that were scaled by 6: the export is verified to 1e-4
LIMIT, STRIDE = 60, 20
PAIRS = [(row["question"], row["context"]) for row in questions()]


@pytest.fixture(scope="module")
def home(once: Once) -> Home:
    return lambda family: once("qa", family, lambda home: make_engines(home, family))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_the_checkpoint(home: Home, family: str) -> None:
    engine, reference = qdeploy.load(home(family) / "fp32"), Reference(home(family) / "checkpoint")
    found = engine.answer(PAIRS, top_k=N_BEST, max_length=LIMIT, stride=STRIDE)
    several = 0
    for (question, context), said in zip(PAIRS, found, strict=True):
        spans, _ = reference.spans(question, context, LIMIT, STRIDE)
        best = sorted(spans.values(), reverse=True)[:N_BEST]
        assert len(said) == len(best)
        several += len(context.split()) > LIMIT
        powers = [math.exp(value - best[0]) for value in best]
        for answer, value, power in zip(said, best, powers, strict=True):
            assert answer.text == context[answer.start : answer.end]
            # spans of nearly equal sums may change places between two runtimes
            assert spans[answer.start, answer.end] == pytest.approx(value, abs=SAME)
            assert answer.score == pytest.approx(power / sum(powers), rel=3 * SAME)
    assert several > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_no_answer_is_that_of_the_checkpoint(home: Home, family: str) -> None:
    engine, reference = qdeploy.load(home(family) / "fp32"), Reference(home(family) / "checkpoint")
    differences = []
    for question, context in PAIRS:
        spans, none = reference.spans(question, context, LIMIT, STRIDE)
        differences.append(none - max(spans.values()))
    threshold = float(np.median(differences))
    options: dict[str, Any] = {"max_length": LIMIT, "stride": STRIDE}
    found = engine.answer(PAIRS, handle_impossible_answer=True, no_answer_threshold=threshold,
                          **options)  # fmt: skip
    always = engine.answer(PAIRS, **options)
    for said, plain, difference in zip(found, always, differences, strict=True):
        if abs(difference - threshold) > SAME:
            assert (said.text == "") == (difference > threshold)
        assert (said.start, said.end) == ((0, 0) if said.text == "" else (plain.start, plain.end))
    assert 10 < sum(said.text == "" for said in found) < 40
    assert all(said.text for said in always)


def test_a_context_is_read_to_its_end(home: Home) -> None:
    """The answer in the last window of a long context is that of the window by itself."""
    engine = qdeploy.load(home("bert") / "fp32")
    question, context = next(pair for pair in PAIRS if len(pair[1].split()) > 200)
    late = [said for said in engine.answer([(question, context)], top_k=20)[0] if said.end > 900]
    whole = engine.logits([(question, context)])[0]["start_logits"]
    assert len(whole) == engine.max_length and late, "logits() cuts what answer() reads"


def test_forms_of_a_question(home: Home) -> None:
    engine = qdeploy.load(home("bert") / "fp32")
    (question, context), second = PAIRS[1], PAIRS[2]
    one = engine.answer(question, context)
    assert isinstance(one, Answer) and 0 < one.score <= 1
    both = engine.answer([(question, context), second])
    # batches of other lengths round otherwise
    assert (both[0].start, both[0].end) == (one.start, one.end)
    assert both == engine.answer(
        [{"question": q, "context": c} for q, c in ((question, context), second)]
    )
    assert both == engine.answer([{"text": q, "text_pair": c} for q, c in (PAIRS[1], second)])
    best = engine.answer(question, context, top_k=3)
    assert [a.score for a in best] == sorted((a.score for a in best), reverse=True)
    assert best[0] == one and len(best) == 3
    short = engine.answer(question, context, max_answer_length=1)
    assert " " not in short.text


def test_wrong_questions(home: Home) -> None:
    engine: Any = qdeploy.load(home("bert") / "fp32")
    for given, said in [
        (("who",), r"A question and its context were expected: pass answer\(question, context\)"),
        (("who", None), "A question and its context were expected"),
        (([("who", "x")], "x"), "A question and its context were expected"),
        ((["who", "what"],), "Single texts were given, and pairs were expected"),
        (([("who", " ")],), "Row 0: the context is ' ', and text was expected"),
        (([("who", "x"), ("", "x")],), "Row 1: the question holds no text"),
        (([("who", 3)],), "Row 0: the second text is 3"),
        (([{"question": "who"}],), "Row 0 is a dict with the keys 'question'"),
        (([],), "No rows were given"),
        (("who " * 200, "x"), "no room for a context"),
        (("who", "\u200b"), "the context has no tokens"),
    ]:
        with pytest.raises(DataError, match=said):
            engine.answer(*given)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"top_k": 0}, "top_k is 0, and 1 to 20"),
        ({"top_k": 21}, "top_k is 21"),
        ({"max_answer_length": 0}, "--max-answer-length is 0"),
        ({"stride": -1}, "--stride is -1"),
        ({"no_answer_threshold": float("nan")}, "--no-answer-threshold is nan"),
        ({"no_answer_threshold": 1.0}, "every question has an answer here"),
    ]
    for options, said in wrong:
        with pytest.raises(PlanError, match=said):
            engine.answer("who", "x", **cast("Any", options))
    with pytest.raises(TypeError, match="doc_stride"):
        engine.answer("who", "x", doc_stride=4)
    with pytest.raises(DataError, match="overlap in 500"):
        engine.answer("who", "x", stride=500)


@bag
def test_other_engines_answer_no_questions(tmp_path: Path) -> None:
    engine = qdeploy.load(engine_directory(tmp_path / "e"))
    with pytest.raises(PlanError, match=r"answer\(\) is for question answering. Call predict\(\)"):
        engine.answer("who", "x")
    rows = tmp_path / "rows.csv"
    rows.write_text("text\nyes\n")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"stride": 3}, "--stride is for question answering, and this engine is a classifier"),
        ({"handle_impossible_answer": True}, "--handle-impossible-answer is for question answer"),
    ]
    for options, said in wrong:
        with pytest.raises(PlanError, match=said):
            qdeploy.predict_file(tmp_path / "e", rows, **cast("Any", options))
    with pytest.raises(PlanError, match="--max-answer-length is for question answering"):
        qdeploy.evaluate(tmp_path / "e", max_answer_length=3, latency=False)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_files_say_what_load_says(home: Home, suffix: str, tmp_path: Path) -> None:
    import csv

    engine, path = home("bert") / "w8a8", home("bert") / "rows.jsonl"
    if suffix == "csv":
        path = tmp_path / "rows.csv"
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("id", "question", "context"), *(
                (at, *pair) for at, pair in enumerate(PAIRS))])  # fmt: skip
    options: dict[str, Any] = {"max_length": LIMIT, "stride": STRIDE, "max_answer_length": 5}
    result = qdeploy.predict_file(engine, path, out=tmp_path / "out.jsonl", keep="id", **options)
    assert result["fields"] == ["answer", "score", "start", "end"]
    assert (result["rows"], result["truncated"], result["max_length"]) == (len(PAIRS), 0, LIMIT)
    wanted = qdeploy.load(engine).answer(PAIRS, **options)
    for row, said in zip(answers(tmp_path / "out.jsonl"), wanted, strict=True):
        assert row == {
            "id": row["id"], "answer": said.text, "score": pytest.approx(said.score, rel=1e-5),
            "start": said.start, "end": said.end,
        }  # fmt: skip


def test_logits_of_each_window_and_no_answer(home: Home, tmp_path: Path) -> None:
    engine, out = home("bert") / "fp32", tmp_path / "out.jsonl"
    qdeploy.predict_file(engine, home("bert") / "rows.jsonl", out=out, logits=True,
                         handle_impossible_answer=True, no_answer_threshold=-1000)  # fmt: skip
    for row, (question, context) in zip(answers(out), PAIRS, strict=True):
        assert (row["answer"], row["start"], row["end"]) == ("", 0, 0)
        one = qdeploy.load(engine).logits([(question, context)])[0]
        assert (len(row["start_logits"]) > 1) == (len(one["start_logits"]) == 128)
        if len(row["start_logits"]) == 1:
            for name, values in one.items():
                np.testing.assert_allclose(row[name][0], values, rtol=1e-4, atol=1e-4)


def test_files_without_contexts(home: Home, tmp_path: Path) -> None:
    engine, path = home("bert") / "fp32", tmp_path / "rows.jsonl"
    path.write_text('{"text": "who"}\n')
    with pytest.raises(PlanError, match="rows of one text were found.*--columns QUESTION,CONTEXT"):
        qdeploy.predict_file(engine, path, out=tmp_path / "o")
    path.write_text(
        '{"question": "who", "context": "the king"}\n'
        '{"question": "who", "context": ""}\n'
        f'{{"question": "{"who " * 200}", "context": "the king"}}\n'
    )
    with pytest.warns(match="2 of 3 rows could not be answered.*rows.jsonl, line 2: column"):
        qdeploy.predict_file(engine, path, out=tmp_path / "o")
    none = dict.fromkeys(("answer", "score", "start", "end"))
    assert answers(tmp_path / "o")[0]["score"] > 0 and answers(tmp_path / "o")[1:] == [none, none]
    path.write_text(path.read_text().splitlines()[2])
    with pytest.warns(match=r"1 of 1 rows could not.* line 1: the question has \d+ tokens"):
        qdeploy.predict_file(engine, path, out=tmp_path / "p")


@pytest.mark.parametrize("family", FAMILIES)
def test_eval_is_what_answer_says(home: Home, family: str) -> None:
    engine, rows = home(family), questions()
    options: dict[str, Any] = {"stride": STRIDE, "max_answer_length": 4}
    report = qdeploy.evaluate(engine / "w8a8", data=engine / "rows.jsonl", latency=False,
                              baseline=engine / "fp32", **options)  # fmt: skip
    quality, left_out = report["quality"], report["data"]["left_out"]
    assert quality is not None and report["task"] == "squad" and left_out == 8
    assert quality["metric"] == "answer f1" and quality["n"] == len(rows) - left_out
    # the rows that calibrated are not among them: those of the report are found again by the rest
    seen = {row["question"] + row["context"] for row in _calibrated(engine)}
    own = [row for row in rows if row["question"] + row["context"] not in seen]
    gold = [row["answers"]["text"] for row in own]
    pairs = [(row["question"], row["context"]) for row in own]
    for name, at in (("w8a8", "value"), ("fp32", "baseline")):
        said = qdeploy.load(engine / name).answer(pairs, handle_impossible_answer=True, **options)
        scores = scores_of(gold, [one.text for one in said])
        for figure in quality["figures"]:
            assert figure[at] == pytest.approx(scores.figure(figure["name"]))  # type: ignore[literal-required]
    assert [f["name"] for f in quality["figures"]] == [
        "answer f1", "exact match", "HasAns f1", "NoAns f1",
    ]  # fmt: skip
    assert report["baseline"] is not None and report["baseline"]["sqnr_db"] is not None


def _calibrated(engine: Path) -> list[dict[str, Any]]:
    from qdeploy.data.rows import row_hashes
    from qdeploy.data.texts import rows_from_texts
    from qdeploy.files.artifact import read_manifest

    calibration = read_manifest(engine / "w8a8", "engine")["calibration"]
    assert calibration is not None
    hashes = row_hashes(rows_from_texts(PAIRS))
    return [r for r, h in zip(questions(), hashes, strict=True) if h in calibration["row_hashes"]]


def test_the_drop_is_a_gate(home: Home) -> None:
    """An engine of other weights loses what the first answers right."""
    engine = home("bert")
    rows = [json.loads(line) for line in (engine / "rows.jsonl").read_text().splitlines()]
    said = qdeploy.load(engine / "fp32").answer(PAIRS)
    data = engine.parent / "own.jsonl"
    for row, one in zip(rows, said, strict=True):
        row["answers"] = {"text": [one.text], "answer_start": [one.start]}
    data.write_text("\n".join(map(json.dumps, rows)))
    report = qdeploy.evaluate(engine / "fp32", data=data, latency=False)
    assert report["quality"] is not None and main_figure(report["quality"])["value"] == 1
    with (
        pytest.warns(QDeployWarning, match="calibrated the engine: its answer f1 is too good"),
        pytest.raises(GateError, match=r"answer f1 drops by .* hundredths"),
    ):
        qdeploy.evaluate(engine / "w8a8", data=data, baseline=engine / "fp32", latency=False,
                         max_drop=0.0)  # fmt: skip
    qdeploy.evaluate(engine / "fp32", data=data, baseline=engine / "fp32", latency=False,
                     max_drop=0.0)  # fmt: skip


def test_eval_of_rows_without_contexts_or_answers(home: Home, tmp_path: Path) -> None:
    engine, path = home("bert") / "fp32", tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"question": "who {at}", "context": "king"}}\n' for at in range(4)))
    with pytest.raises(PlanError, match="its quality is not measured, since .* has no labels"):
        qdeploy.evaluate(engine, data=path, latency=False)
    with pytest.warns(match="Quality was not measured: .* has no labels"):
        report = qdeploy.evaluate(engine, data=path, latency=False, baseline=engine)
    assert report["quality"] is None and report["baseline"] is not None
    with pytest.raises(DataError, match="gold answers .* were expected. Pass --task squad"):
        path.write_text('{"question": "who", "context": "king", "label": "x"}\n')
        qdeploy.evaluate(engine, data=path, latency=False)


def test_squads_own_files_are_answered(home: Home, tmp_path: Path) -> None:
    engine, path = home("bert") / "fp32", tmp_path / "dev.json"
    asked = [{"question": question, "id": str(at)} for at, (question, _) in enumerate(PAIRS[:2])]
    paragraphs = [{"context": PAIRS[at][1], "qas": [asked[at]]} for at in range(2)]
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    qdeploy.predict_file(engine, path, out=tmp_path / "out", keep="id")
    wanted = qdeploy.load(engine).answer(PAIRS[:2])
    found = [(row["id"], row["answer"]) for row in answers(tmp_path / "out")]
    assert found == [(str(at), one.text) for at, one in enumerate(wanted)]


def test_a_metric_of_ones_own_gets_answers(home: Home, tmp_path: Path) -> None:
    engine, seen = home("bert"), list[tuple[Any, Any]]()

    def exact(outputs: Any, labels: Any) -> float:
        pairs = list(zip(outputs, labels, strict=True))
        seen.extend(pairs[:40])
        return sum(row["answer"] in (gold or [""]) for row, gold in pairs) / len(pairs)

    qdeploy.build(engine / "model", tmp_path / "e", strategy="auto", metric=exact, max_drop=100,
                  data=str(engine / "rows.jsonl"), calibration_rows=8, measure=False,
                  opt_shape="2x16")  # fmt: skip
    for row, gold in seen:
        assert isinstance(row["answer"], str) and len(row["start_logits"]) >= 1
        assert isinstance(gold, list) and all(isinstance(text, str) for text in gold)
