"""The commands that measure, run or look at what was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdeploy.against.options import AgainstOptions
from qdeploy.errors import GateError, PlanError
from qdeploy.evaluate.options import EvalOptions, PredictOptions
from qdeploy.machine.faults import explained
from qdeploy.options import documented, given_or
from qdeploy.types import PathLike, Progress, as_path
from qdeploy.verification.options import SignOptions, VerifyOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdeploy.evaluate.predictor import Predictor
    from qdeploy.schemas.comparison import FileComparison
    from qdeploy.schemas.doctor import MachineReport
    from qdeploy.schemas.evaluation import Evaluation
    from qdeploy.schemas.inspection import InspectedEngine, InspectedFile, InspectedModel
    from qdeploy.schemas.prediction import AnsweredFile
    from qdeploy.schemas.verification import Signed, Verified


@explained()
@documented(EvalOptions)
def evaluate(
    engine_dir: PathLike,
    options: EvalOptions | None = None,
    *,
    html: PathLike | None = None,
    card: PathLike | None = None,
    progress: Progress | None = None,
    **fields: object,
) -> Evaluation:
    """Measure an engine: accuracy, latency, memory, size and its INT8 kernels.

    Args:
        engine_dir: engine directory.
        options: see below; each may be a keyword instead.
        html: file for the report as one self-contained page.
        card: file for a model card (Markdown) to publish.
        progress: see the module.

    Returns:
        The report, as in docs/files.md.

    Raises:
        GateError: a gate was not met; its attribute `report` is the report.
        PlanError, DataError, ModelError, TargetError, VerificationError: see `qdeploy.errors`.
    """
    from qdeploy.evaluate.run import evaluate_engine
    from qdeploy.report.outputs import Outputs

    asked = given_or(EvalOptions, options, fields)
    read = (engine_dir, asked.data, asked.baseline, asked.model)
    outputs = Outputs(html=as_path(html), card=as_path(card), given=read)
    if asked.baseline is not None:
        from qdeploy.autotune.baseline import with_baseline

        asked = with_baseline(engine_dir, asked, progress=progress)
    try:
        report = evaluate_engine(engine_dir, asked, progress=progress)
    except GateError as error:  # a failed gate is a result too
        outputs.write(error.report)
        raise
    outputs.write(report)
    return report


@explained()
def load(
    engine_dir: PathLike,
    *,
    threads: int | None = None,
    verify: str | bool = "sha256",
    public_key: PathLike | None = None,
    certificate_chain: Sequence[PathLike] | str | None = None,
    identity: str | None = None,
    identity_provider: str | None = None,
) -> Predictor:
    """Load an engine for prediction: `load(engine_dir).predict([(question, sentence), ...])`.

    Args:
        engine_dir: engine directory.
        threads: threads the engine may use; None takes the cores that the process may use.
        verify: how its files are held against its qdeploy.json: `"sha256"` reads them once more,
            `"stat"` compares their sizes alone, for callers who cannot wait. True checks first what
            `qdeploy.verify` does, which takes seconds.
        public_key, certificate_chain, identity, identity_provider: who signed, as `qdeploy.verify`
            takes it; whoever names one gets `verify=True`.

    Raises:
        GateError: with `verify=True`, a check failed; its attribute `report` has all of them.
        ModelError: not an engine directory, or its files are not those of its qdeploy.json.
        PackageError: a signature is to be checked, and the extra `sign` is not installed.
        TargetError: its target does not work on this machine.
        PlanError: `threads` or `verify` that is none, or a signer that cannot be checked.
    """
    from qdeploy.evaluate.predictor import Predictor

    signer: dict[str, Any] = {
        "public_key": public_key,
        "certificate_chain": certificate_chain,
        "identity": identity,
        "identity_provider": identity_provider,
    }
    named = [name for name, value in signer.items() if value is not None]
    if named and verify not in (True, "sha256"):
        raise PlanError(
            f"{named[0]} names who signed, and verify={verify!r} does not ask for that. Write "
            "verify=True, or leave verify out."
        )
    if verify is True or named:
        from qdeploy.verification.run import verify_engine

        verify_engine(engine_dir, threads=threads, **signer)
        verify = "sha256"
    return Predictor(engine_dir, threads=threads, verify=str(verify))


@explained()
@documented(VerifyOptions)
def verify(
    engine_dir: PathLike, options: VerifyOptions | None = None, **fields: object
) -> Verified:
    """Check an engine on the machine that serves it: files, signature, tokens, outputs, kernels.

    Args:
        engine_dir: engine directory.
        options: see below; each may be a keyword instead.

    Returns:
        Each check with its state and a sentence, the differences of the outputs from those of the
        build, and the latency of a short run. docs/verify.md says what each check holds against
        what.

    Raises:
        GateError: a check failed; its attribute `report` is the whole result.
        ModelError: not an engine directory.
        PackageError: a signature is to be checked, and the extra `sign` is not installed.
        PlanError, DataError: an option that cannot be followed.
    """
    from qdeploy.verification.run import verify_engine

    return verify_engine(engine_dir, options, **fields)


@explained()
@documented(SignOptions)
def sign(engine_dir: PathLike, options: SignOptions | None = None, **fields: object) -> Signed:
    """Sign an engine directory: one detached signature over all its files (OMS), `model.sig`.

    Args:
        engine_dir: engine directory.
        options: see below; each may be a keyword instead.

    Returns:
        Where the signature stands, and what it was made with.

    Raises:
        ModelError: not an engine directory, or its files are not those that were built.
        OutputError: it is signed already.
        PackageError: the extra `sign` is not installed.
        PlanError: a key or a certificate that does not sign.
    """
    from qdeploy.verification.signature import sign_engine

    return sign_engine(engine_dir, options, **fields)


@explained()
@documented(PredictOptions)
def predict_file(
    engine_dir: PathLike,
    file: PathLike = "-",
    options: PredictOptions | None = None,
    *,
    progress: Progress | None = None,
    **fields: object,
) -> AnsweredFile:
    """Answer every row of a file or of standard input, block by block, in the order given.

    Memory does not grow with the rows. docs/predict.md says what is answered for each head.

    Args:
        engine_dir: engine directory.
        file: CSV, TSV, JSONL, text (a row a line), Parquet, CoNLL or SQuAD file; `"-"` is standard
            input.
        options: see below; each may be a keyword instead.
        progress: see the module.

    Returns:
        How many `rows` were read, with the number of each label in `answers`, how many are
        `unanswered` (they have no text, and null for an answer; a warning names the first) or
        `truncated`, `seconds` and `rows_per_s`, `threads`, and where the answers stand (`out`).

    Raises:
        DataError: rows that cannot be read or answered; the text names the line, and says what was
            answered before it.
        PlanError: an option that cannot be followed, or one of another kind of head.
        ModelError, TargetError, OutputError, VerificationError: see `qdeploy.errors`.
    """
    from qdeploy.evaluate.predict_file import predict_file as answer

    return answer(engine_dir, file, options, progress=progress, **fields)


@explained()
def inspect(
    path: PathLike, *, target: str | None = None, require_int8: float | None = None
) -> InspectedModel | InspectedEngine | InspectedFile:
    """Describe a model directory, an engine directory (plan and certificate) or an ONNX file.

    Args:
        path: what to look at.
        target: of a file: whose rules it is held against; None asks ONNX Runtime's CPU provider
            for its kernels.
        require_int8: gate: least share (0 to 1) of the FLOPs of all constant-weight products,
            planned or not, that must run in INT8.

    Raises:
        GateError: a rule of the target is broken, or `require_int8` is not reached; its attribute
            `report` is the description.
        ModelError: nothing of the three.
        TargetError: a target that has no rules for files.
        PlanError: `require_int8` of something that ran no kernel.
    """

    from qdeploy.deploy.inspect import inspect_path

    return inspect_path(path, target, require_int8=require_int8)


@explained()
@documented(AgainstOptions)
def inspect_against(
    path: PathLike,
    against: PathLike,
    options: AgainstOptions | None = None,
    *,
    html: PathLike | None = None,
    progress: Progress | None = None,
    **fields: object,
) -> FileComparison:
    """Say what a quantized ONNX file of anybody loses against its FP32 file, on the same rows.

    Both run on ONNX Runtime's CPU provider, each in a process of its own. `docs/foreign_files.md`
    says what each figure means.

    Args:
        path: quantized .onnx file, or an engine directory with one.
        against: its FP32 .onnx file, or a model directory, or an engine directory of fp32.
        options: see below; each may be a keyword instead.
        html: file for the report as one self-contained page.
        progress: see the module.

    Returns:
        Agreement, noise and accuracy of each file, what each INT8 product costs, and what
        `inspect` says of the quantized file.

    Raises:
        ModelError: no such files, files of two models, or one that does not run.
        DataError: rows that cannot be read, or labels that are not the model's.
        PlanError, OutputError, VerificationError: see `qdeploy.errors`.
    """
    from qdeploy.against.run import compare_files
    from qdeploy.report.outputs import Outputs

    asked = given_or(AgainstOptions, options, fields)
    outputs = Outputs(html=as_path(html), given=(path, against, asked.data, asked.tokenizer))
    report = compare_files(path, against, asked, progress=progress)
    outputs.write(report)
    return report


@explained()
def doctor() -> MachineReport:
    """Say which targets work on this machine, and for each other one the reason and the remedy."""
    from qdeploy.deploy.doctor import diagnose

    return diagnose()
