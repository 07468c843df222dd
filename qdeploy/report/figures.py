"""The figures of an evaluation, once: terminal, page and card show this list.

A figure is text by then, so that it has the same words and digits wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qdeploy.figures import (
    accuracy,
    changed,
    counted,
    decibels,
    factor,
    interval,
    logit_difference,
    megabytes,
    milliseconds,
    part,
    points,
    probability,
    row_tokens,
    speed,
    tera,
)
from qdeploy.names import eight_bits
from qdeploy.report.figure import Figure, Mood
from qdeploy.report.quality_figures import quality_figures
from qdeploy.schemas.evaluation import (
    GIVEN,
    SORTED,
    Baseline,
    Data,
    Evaluation,
    Int8Peak,
    Latency,
    Protocol,
    Ran,
    Speedup,
    Traffic,
)
from qdeploy.schemas.manifest import Lengths
from qdeploy.schemas.quality import judging_figure

SIGNIFICANT = 0.05  # p below which a drop is told as one
SERVER_ROWS = 8  # of the batches that stand for traffic


def figures_of(report: Evaluation) -> list[Figure]:
    """What was measured, in the order in which it is shown; nothing of what was left out."""
    base = report["baseline"]
    return [
        *_accuracy(report),
        *quality_figures(report),
        *(() if base is None else _against(report, base)),
        *_traffic(report),
        *_latency(report),
        *_speedups(report),
        *_neighbours(report),
        *_row_lengths(report["data"]),
        *_sizes(report),
    ]


def _accuracy(report: Evaluation) -> Iterator[Figure]:
    metrics, labels = report["metrics"], report["labels"]
    if metrics is not None:
        constant, value = metrics["constant_predictor"], f"{accuracy(metrics['accuracy'])} %"
        rows = f"{counted(metrics['n'], 'row')}, {report['task']}"
        detail = f"95 %: {interval(metrics['ci95'], accuracy)}; {rows}"
        headline = value if judging_figure(report["quality"]) is None else ""
        yield Figure("accuracy", value, detail, "bad" if constant else "", headline=headline)
        if constant:
            told = "the engine answers one class only"
            yield Figure("answers", "CONSTANT PREDICTOR", told, "bad")
    if labels is not None and labels["swapped"] and labels["accuracy_if_swapped"] is not None:
        better = f"{accuracy(labels['accuracy_if_swapped'])} % with the classes in another order"
        yield Figure("classes", "CLASS ORDER", better, "bad")


def _against(report: Evaluation, base: Baseline) -> Iterator[Figure]:
    """What is lost against the baseline, and how far the outputs are from its own."""
    name, judging = base["strategy"], judging_figure(report["quality"])
    if "accuracy" in base:
        yield Figure(
            f"accuracy of {name}",
            f"{accuracy(base['accuracy'])} %",
            f"95 %: {interval(base['ci95'], accuracy)}",
        )
    if "drop" in base:
        value = f"{points(base['drop'])} points"
        detail = f"McNemar p = {probability(base['mcnemar_p'])}"
        mood: Mood = "bad" if is_loss(base) else ""
        if judging is None:
            yield Figure(f"drop against {name}", value, detail, mood, headline=value)
        else:
            yield Figure(f"accuracy drop against {name}", value, detail, mood)
    if "agreement" in base:
        value = f"{accuracy(base['agreement'])} %"
        headline = "" if "drop" in base else value
        detail = changed(base["flipped"], report["data"]["n"])
        yield Figure(f"agreement with {name}", value, detail, headline=headline)
    if base.get("equal_logits"):
        yield Figure("logits", f"equal to {name}'s")
    elif "max_abs_diff" in base:
        level, value = base["sqnr_db"], logit_difference(base["max_abs_diff"])
        output = "embedding" if "embeddings" in base else "logit"
        if level is not None:
            yield Figure(f"{output} SQNR", f"{decibels(level)} dB", f"against {name}")
        headline = "" if "agreement" in base else value
        detail = f"of {'a value' if output == 'embedding' else 'a logit'} from {name}'s"
        yield Figure("largest difference", value, detail, headline=headline)


def measured(report: Evaluation) -> str:
    """What is measured of answers, in a word: accuracy where one class of a row is right."""
    compared = report["baseline"] is not None and "agreement" in report["baseline"]
    alone = report["baseline"] is None and report["quality"] is None
    return "accuracy" if report["metrics"] is not None or compared or alone else "quality"


def is_loss(base: Baseline) -> bool:
    """Whether accuracy is lost, and by more than chance."""
    return "drop" in base and base["drop"] > 0 and base["mcnemar_p"] < SIGNIFICANT


def _latency(report: Evaluation) -> Iterator[Figure]:
    """The latency, and what ran in 8 bits beside it."""
    latency, device, asked = report["latency_ms"], report["device_ms"], report["protocol"]
    if latency is not None:
        value = f"{milliseconds(latency['p50'])} ms"
        detail = f"median, {shape(asked)} tokens, {asked['threads']} threads"
        yield Figure("latency", value, detail, headline=value)
        names, times = zip(*percentiles(latency)[1:], strict=True)
        yield Figure(", ".join(names), f"{', '.join(times)} ms")
    if latency is not None or report["int8"] is not None:
        yield _int8(report)
    if report["int8_peak"] is not None:
        yield _int8_peak(report["int8_peak"])
    if device is not None:
        launched = "one CUDA graph" if report["cuda_graph"] else "no CUDA graph"
        value = f"{milliseconds(device['p50'])} ms"
        yield Figure("latency on the device", value, f"median, {launched}")
    if latency is not None and (ran := runs(asked)):
        yield Figure("runs", ran)


def shape(protocol: Protocol) -> str:
    """Rows and tokens of a run: `8 × 128`."""
    return f"{protocol['batch_size']} × {protocol['seq_len']}"


def percentiles(latency: Latency) -> list[tuple[str, str]]:
    """Names and digits of the times of one shape, the median first."""
    return [
        ("p50", milliseconds(latency["p50"])),
        ("p90", milliseconds(latency["p90"])),
        ("p95", milliseconds(latency["p95"])),
        ("p99", milliseconds(latency["p99"])),
        ("mean", milliseconds(latency["mean"])),
    ]


def runs(found: Ran | Protocol) -> str:
    """How many runs, in what time, and whether the time ended them; "" where there was none."""
    if found["seconds"] is None:
        return ""
    ended = " (ended by --seconds)" if found["ended_by_time"] else ""
    before = f"{counted(found['warmup'] or 0, 'run')} before and {found['iterations']} timed"
    return f"{before} in {found['seconds']:.1f} s{ended}"


def _int8(report: Evaluation) -> Figure:
    check, name = report["int8"], eight_bits(report["strategy"])
    if check is None:
        return Figure(name, "not looked at")
    if not check["planned"]:
        return Figure(name, check["summary"])
    whole = check["executed"] == check["planned"]
    headline = f"{check['executed']}/{check['planned']} GEMMs"
    mood: Mood = "good" if whole else "bad"
    return Figure(name, check["summary"], mood=mood, headline=headline)


def _int8_peak(peak: Int8Peak) -> Figure:
    speeds = f"{tera(peak['tops'])} of {tera(peak['peak_tops'])} TOPS"
    fastest = " or ".join(sorted(peak["fastest"]))
    detail = f"fixed shape: {speeds}, which {fastest} reaches on each of its GEMMs alone"
    return Figure("share of the INT8 peak", part(peak["share"]), detail)


def _traffic(report: Evaluation) -> Iterator[Figure]:
    """Each kind of traffic; the one of a server's batches in big letters."""
    sections = report["traffic"]
    if not sections:
        return
    main = server_traffic(sections)
    for own in sections:
        times, rate = own["latency_ms"], f"{speed(own['rows_per_s'])} rows a second"
        p50, padding = f"{milliseconds(times['p50'])} ms", f"{part(own['padding'])} padding"
        if own["order"] == SORTED:
            yield Figure(load(own), rate, f"{p50} a batch, {padding}")
            continue
        detail = f"median; p95 {milliseconds(times['p95'])} ms, {rate}, {padding}"
        yield Figure(load(own), p50, detail, headline=p50 if own is main else "")
    tokens = {"median": main["tokens"]["median"], "p95": main["tokens"]["p95"]}
    yield Figure("tokens in traffic", row_tokens(tokens))
    seconds = sum(own["seconds"] for own in sections)
    timed = sum(own["iterations"] for own in sections)
    each = " of each engine" if report["baseline"] is not None else ""
    yield Figure("runs of traffic", f"{counted(timed, 'run')}{each} timed, {seconds:.1f} s in all")


def server_traffic(sections: Sequence[Traffic]) -> Traffic:
    """The kind that stands for the others: 8 rows in the order given, or the nearest to that."""
    given = [own for own in sections if own["order"] == GIVEN]
    return min(given, key=lambda own: abs(own["batch_size"] - SERVER_ROWS))


def load(own: Traffic) -> str:
    """A kind of traffic in words."""
    rows = counted(own["batch_size"], "row")
    return f"traffic, {rows}" if own["order"] == GIVEN else f"offline, {rows} sorted"


def _speedups(report: Evaluation) -> Iterator[Figure]:
    base, sections = report["baseline"], report["traffic"] or []
    if base is None:
        return
    name = f"speed against {base['strategy']}"
    for own in sections:
        if own["speedup"] is not None:
            found = _speedup(name, own["speedup"], load(own))
            yield found if own is server_traffic(sections) else replace(found, headline="")
    if report["speedup"] is not None:
        yield _speedup(name, report["speedup"], f"fixed shape, {shape(report['protocol'])}")


def _speedup(name: str, found: Speedup, where: str) -> Figure:
    low, high = found["ci95"]
    value, detail = f"{factor(found['ratio'])} ×", f"95 %: {interval(found['ci95'], factor)}"
    mood: Mood = "good" if low > 1 else "bad" if high < 1 else ""
    return Figure(name, value, f"{detail}; {where}", mood, headline=value)


def _neighbours(report: Evaluation) -> Iterator[Figure]:
    base = report["baseline"]
    if report["neighbours"] is not None:
        yield Figure("in a batch", report["neighbours"]["summary"])
    if base is not None and (theirs := base.get("neighbours")) is not None:
        yield Figure(f"in a batch, {base['strategy']}", theirs["summary"])


def _row_lengths(data: Data) -> Iterator[Figure]:
    """How long the rows of the evaluation and of the calibration are, and how many were cut."""
    if data["lengths"] and data["truncated"] is not None and data["max_length"] is not None:
        own: Lengths = {
            "max_length": data["max_length"],
            "truncated": data["truncated"],
            "truncated_share": data["truncated_share"] or 0.0,
            "lengths": data["lengths"],
        }
        yield from _lengths(own, "")
    if data["calibration"] is not None and data["calibration"].get("lengths"):
        yield from _lengths(data["calibration"], " in calibration")


def _lengths(found: Lengths, whose: str) -> Iterator[Figure]:
    yield Figure(f"tokens{whose or ' of a row'}", row_tokens(found["lengths"]))
    cut, share = found["truncated"], part(found["truncated_share"])
    name, detail = f"rows cut{whose}", f"at {found['max_length']} tokens"
    if not cut:
        yield Figure(name, "none", detail)
    elif whose:
        yield Figure(name, f"{cut}, {share}", detail)
    else:
        yield Figure(name, f"{cut}, {share}", detail, "bad", headline=share)


def _sizes(report: Evaluation) -> Iterator[Figure]:
    size, memory = report["size_mb"], report["memory_mb"]
    total = f"{megabytes(size['total'])} MB"
    rest = f"graph and weights {megabytes(size['model'])}, weights {megabytes(size['weights'])}"
    yield Figure("size on disk", total, rest, headline=total)
    if memory is not None:
        rest = f"{megabytes(memory['interpreter'])} before the engine was loaded"
        if "device" in memory:
            rest += f"; {megabytes(memory['device'])} on the device"
        yield Figure("peak memory", f"{megabytes(memory['peak'])} MB", rest)
