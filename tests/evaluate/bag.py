"""A bag-of-words classifier as an engine directory: real logits, in numpy and as ONNX.

Its logits are the sum of a table's rows over the tokens that are not padding: `yes` votes for class
0, `no` for class 1, and every other word says a little.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.files.artifact import write_json, write_manifest
from qdeploy.files.integrity import SHA256
from tests import manifests

Array = npt.NDArray[Any]

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "yes", "no", *(f"w{i}" for i in range(26)))
CLASSES = ("entailment", "not_entailment")
MAX_LENGTH = 32


def table(noise: float = 0.05, seed: int = 0) -> Array:
    """Votes of each word, float32 [V, 2]."""
    votes = np.random.default_rng(seed).normal(0, noise, (len(WORDS), 2)).astype(np.float32)
    votes[WORDS.index("yes")] += (2, 0)
    votes[WORDS.index("no")] += (0, 2)
    return votes


class BagEngine(Engine):
    """An engine over a table of votes."""

    input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    output_names: tuple[str, ...] = ("logits",)

    def __init__(self, votes: Array, threads: int = 1, pause_ms: float = 0.0) -> None:
        super().__init__()
        self.votes = votes
        self.threads = threads
        self.pause_ms = pause_ms
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Sum of votes where the mask is 1."""
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        self.shapes.append(ids.shape)
        if self.pause_ms:
            time.sleep(self.pause_ms / 1000)
        votes = self.votes[ids] * mask[..., None].astype(np.float32)
        if self.output_names == ("logits",):
            return {"logits": votes.sum(axis=1)}
        return {name: votes[..., at] for at, name in enumerate(self.output_names)}

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """One kernel: the gather."""
        return [KernelTime("gather", "Gather", 0.01, 1)]

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """It has no GEMM."""
        return KernelTrace({}, self.profile(feeds))


def tokenizer() -> Any:
    """Whitespace words, `[CLS] A [SEP] B [SEP]`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: at for at, word in enumerate(WORDS)}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")],
    )
    return built


def engine_directory(
    directory: Path, votes: Array | None = None, *, skips: int = 0, **fields: Any
) -> Path:
    """Write an engine directory; `fields` replace those of its manifest, `skips` is the graph's."""
    directory.mkdir(parents=True)
    write_onnx(directory / "model.onnx", table() if votes is None else votes, skips)
    tokenizer().save(str(directory / "tokenizer.json"))
    write_json(
        directory / "certificate.json",
        {"planned_gemms": {}, "other_products": {}, "flops_measured": True},
    )
    own = {"labels": list(CLASSES), "max_length": MAX_LENGTH, "model_type": "bag"}
    write_manifest(directory, "engine", manifests.fields("engine", **own) | fields)
    return directory


def load_bag(
    directory: Path, *, threads: int = 2, simulate: bool = False, how: str = SHA256
) -> BagEngine:
    """What stands in for `open_engine`: the numpy engine over the table in the ONNX file."""
    assert not simulate and how == SHA256
    import onnx_ir as ir

    initializers = ir.load(directory / "model.onnx").graph.initializers
    votes = initializers["votes"].const_value
    assert votes is not None
    return BagEngine(votes.numpy(), threads)


def write_onnx(path: Path, votes: Array, skips: int = 0) -> None:
    """The same classifier as an ONNX graph; its first `skips` tokens have no vote."""
    import onnx_ir as ir

    def value(name: str, dtype: ir.DataType, *shape: int | str) -> ir.Value:
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))

    ids = value("input_ids", ir.DataType.INT64, "batch", "sequence")
    mask = value("attention_mask", ir.DataType.INT64, "batch", "sequence")
    constants = {"votes": votes, "last": np.array([-1]), "middle": np.array([1])}
    if skips:
        constants |= {"axis": np.array(1), "skips": np.array(skips)}
    held = {name: ir.Value(name=name, const_value=ir.tensor(a)) for name, a in constants.items()}
    for name, initializer in held.items():
        initializer.type = ir.TensorType(ir.DataType(ir.tensor(constants[name]).dtype))
        initializer.shape = ir.Shape(constants[name].shape)
    gather = ir.node("Gather", [held["votes"], ids])
    counting: list[ir.Node] = []
    if skips:
        place = ir.node("CumSum", [mask, held["axis"]])
        late = ir.node("Greater", [place.outputs[0], held["skips"]])
        whole = ir.node("Cast", [late.outputs[0]], {"to": ir.DataType.INT64})
        counting = [place, late, whole, ir.node("Mul", [whole.outputs[0], mask])]
    counted = counting[-1].outputs[0] if counting else mask
    cast = ir.node("Cast", [counted], {"to": ir.DataType.FLOAT})
    column = ir.node("Unsqueeze", [cast.outputs[0], held["last"]])
    masked = ir.node("Mul", [gather.outputs[0], column.outputs[0]])
    total = ir.node("ReduceSum", [masked.outputs[0], held["middle"]], {"keepdims": 0})
    logits = total.outputs[0]
    logits.name = "logits"
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    logits.shape = ir.Shape(("batch", votes.shape[1]))
    graph = ir.Graph(
        [ids, mask],
        [logits],
        nodes=[gather, *counting, cast, column, masked, total],
        initializers=list(held.values()),
        opset_imports={"": 20},
        name="bag",
    )
    ir.save(ir.Model(graph, ir_version=10), path)


def write_rows(path: Path, count: int = 60, wrong: int = 0, seed: int = 0) -> Path:
    """A TSV of pairs that the bag classifies right, but for the first `wrong` of them."""
    rng = random.Random(seed)
    lines = ["index\tquestion\tsentence\tlabel"]
    for at in range(count):
        vote = rng.choice(("yes", "no"))
        label = CLASSES[(vote == "no") != (at < wrong)]
        filler = " ".join(rng.choices(WORDS[6:], k=rng.randrange(1, 12)))
        lines.append(f"{at}\t{filler}\tw0 {vote} w{at % 26}\t{label}")
    path.write_text("\n".join(lines) + "\n")
    return path
