"""Made by docs/generate_stub.py of the options classes; not to be edited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qdeploy import errors as errors
from qdeploy.against.options import AgainstOptions
from qdeploy.analyze.options import AnalyzeOptions
from qdeploy.bundles.options import BundleOptions
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.data.tasks import Columns
from qdeploy.deploy.options import BuildOptions
from qdeploy.evaluate.options import EvalOptions, PredictOptions
from qdeploy.evaluate.predictor import Predictor
from qdeploy.exporter.options import ExportOptions
from qdeploy.schemas.analysis import Analysis
from qdeploy.schemas.built import BuiltForRows, Bundled
from qdeploy.schemas.comparison import FileComparison
from qdeploy.schemas.demo import Demo
from qdeploy.schemas.doctor import MachineReport
from qdeploy.schemas.evaluation import Evaluation
from qdeploy.schemas.inspection import InspectedEngine, InspectedFile, InspectedModel
from qdeploy.schemas.manifest import ModelManifest
from qdeploy.schemas.prediction import AnsweredFile
from qdeploy.schemas.sweep import SweepResult
from qdeploy.schemas.verification import Signed, Verified
from qdeploy.sweep.options import SweepOptions
from qdeploy.types import OwnMetric, PathLike, Progress
from qdeploy.verification.options import SignOptions, VerifyOptions

__all__: list[str]
__version__: str

def analyze(
    model_dir: PathLike,
    options: AnalyzeOptions | None = ...,
    *,
    html: PathLike | None = ...,
    plot: PathLike | None = ...,
    progress: Progress | None = ...,
    data: PathLike | None = ...,
    task: str = ...,
    columns: Columns | str | None = ...,
    calibration_rows: int = ...,
    max_length: int | None = ...,
    statistics: PathLike | None = ...,
    seed: int = ...,
    scope: str = ...,
    activations: str = ...,
    cost_rows: int = ...,
    seconds: float = ...,
    threads: int | None = ...,
) -> Analysis: ...

def build(
    model_dir: PathLike,
    engine_dir: PathLike,
    options: BuildOptions | None = ...,
    *,
    force: bool = ...,
    progress: Progress | None = ...,
    strategy: str = ...,
    target: str = ...,
    opt_shape: str = ...,
    rest_precision: str | None = ...,
    padding: str = ...,
    data: PathLike | None = ...,
    task: str = ...,
    columns: Columns | str | None = ...,
    calibration_rows: int = ...,
    max_length: int | None = ...,
    statistics: PathLike | None = ...,
    seed: int = ...,
    scope: str = ...,
    activations: str | None = ...,
    weights: str = ...,
    weight_rounding: str = ...,
    cpu: str = ...,
    percentile: float = ...,
    mixed: str = ...,
    alpha: float | str = ...,
    grouping: str = ...,
    groups: int | str = ...,
    outlier_channels: int | str | None = ...,
    prescale: str | None = ...,
    shift: bool = ...,
    sensitivity: bool = ...,
    noise_target: float | None = ...,
    float_sites: Sequence[str] | str = ...,
    int8_residuals: bool = ...,
    max_drop: float | None = ...,
    metric: OwnMetric | str | None = ...,
    min_shape: str | None = ...,
    max_shape: str | None = ...,
    workspace_mb: int | None = ...,
    timing_cache: PathLike | None = ...,
    refit: bool = ...,
    version_compatible: bool = ...,
    cuda_graph: bool = ...,
    compute_capability: Sequence[str] | str = ...,
    measure: bool = ...,
    dry_run: bool = ...,
) -> BuiltForRows: ...

def bundle(
    engine_dir: PathLike,
    out: PathLike,
    options: BundleOptions | None = ...,
    *,
    force: bool = ...,
    format: str = ...,
) -> Bundled: ...

def calibrate(
    model_dir: PathLike,
    options: CalibrationOptions | None = ...,
    *,
    second_moments: bool = ...,
    sensitivity: bool = ...,
    ray_address: str | None = ...,
    progress: Progress | None = ...,
    data: PathLike | None = ...,
    task: str = ...,
    columns: Columns | str | None = ...,
    calibration_rows: int = ...,
    max_length: int | None = ...,
    seed: int = ...,
) -> Path: ...

def demo(
    directory: PathLike = ...,
    *,
    force: bool = ...,
    threads: int | None = ...,
    seed: int = ...,
    progress: Progress | None = ...,
) -> Demo: ...

def doctor(
) -> MachineReport: ...

def evaluate(
    engine_dir: PathLike,
    options: EvalOptions | None = ...,
    *,
    html: PathLike | None = ...,
    card: PathLike | None = ...,
    progress: Progress | None = ...,
    task: str = ...,
    data: PathLike | None = ...,
    columns: Columns | str | None = ...,
    label_separator: str | None = ...,
    threshold: float | None = ...,
    baseline: PathLike | None = ...,
    model: PathLike | None = ...,
    limit: int | None = ...,
    max_length: int | None = ...,
    batch_size: int = ...,
    seq_len: int | None = ...,
    warmup: int | None = ...,
    iterations: int | None = ...,
    seconds: float | None = ...,
    threads: int | None = ...,
    latency: bool = ...,
    traffic: bool = ...,
    accuracy: bool = ...,
    max_drop: float | None = ...,
    require_int8: float | None = ...,
    max_answer_length: int = ...,
    no_answer_threshold: float = ...,
    stride: int | None = ...,
    simulate: bool = ...,
    seed: int = ...,
) -> Evaluation: ...

def export(
    checkpoint: PathLike,
    model_dir: PathLike,
    options: ExportOptions | None = ...,
    *,
    force: bool = ...,
    progress: Progress | None = ...,
    task: str | None = ...,
    pooling: str | None = ...,
    tokenizer: PathLike | None = ...,
    allow_pickle: bool = ...,
    trust_remote_code: bool = ...,
    seed: int = ...,
) -> ModelManifest: ...

def inspect(
    path: PathLike,
    *,
    target: str | None = ...,
    require_int8: float | None = ...,
) -> InspectedModel | InspectedEngine | InspectedFile: ...

def inspect_against(
    path: PathLike,
    against: PathLike,
    options: AgainstOptions | None = ...,
    *,
    html: PathLike | None = ...,
    progress: Progress | None = ...,
    data: PathLike | None = ...,
    task: str = ...,
    columns: Columns | str | None = ...,
    limit: int | None = ...,
    max_length: int | None = ...,
    tokenizer: PathLike | None = ...,
    rebuild: PathLike | None = ...,
    strategy: str = ...,
    batch_size: int = ...,
    threads: int | None = ...,
    seed: int = ...,
) -> FileComparison: ...

def load(
    engine_dir: PathLike,
    *,
    threads: int | None = ...,
    verify: str | bool = ...,
    public_key: PathLike | None = ...,
    certificate_chain: Sequence[PathLike] | str | None = ...,
    identity: str | None = ...,
    identity_provider: str | None = ...,
) -> Predictor: ...

def predict_file(
    engine_dir: PathLike,
    file: PathLike = ...,
    options: PredictOptions | None = ...,
    *,
    progress: Progress | None = ...,
    out: PathLike | None = ...,
    format: str | None = ...,
    output_format: str = ...,
    columns: str | None = ...,
    keep: str | None = ...,
    logits: bool = ...,
    prompt_name: str | None = ...,
    output_precision: str = ...,
    truncate_dim: int | None = ...,
    threshold: float | None = ...,
    handle_impossible_answer: bool = ...,
    max_answer_length: int = ...,
    no_answer_threshold: float = ...,
    stride: int | None = ...,
    aggregation_strategy: str = ...,
    batch_size: int = ...,
    max_length: int | None = ...,
    threads: int | None = ...,
) -> AnsweredFile: ...

def sign(
    engine_dir: PathLike,
    options: SignOptions | None = ...,
    *,
    key: PathLike | None = ...,
    certificate: PathLike | None = ...,
    certificate_chain: Sequence[PathLike] | str | None = ...,
    sigstore: bool = ...,
    force: bool = ...,
) -> Signed: ...

def sweep(
    model: PathLike,
    sweep_dir: PathLike,
    options: SweepOptions | None = ...,
    *,
    recipe: PathLike,
    html: PathLike | None = ...,
    plot: PathLike | None = ...,
    progress: Progress | None = ...,
    data: PathLike | None = ...,
    eval_data: PathLike | None = ...,
    max_length: int | None = ...,
    max_drop: float | None = ...,
    ray_address: str | None = ...,
) -> SweepResult: ...

def verify(
    engine_dir: PathLike,
    options: VerifyOptions | None = ...,
    *,
    public_key: PathLike | None = ...,
    certificate_chain: Sequence[PathLike] | str | None = ...,
    identity: str | None = ...,
    identity_provider: str | None = ...,
    report: PathLike | None = ...,
    threads: int | None = ...,
) -> Verified: ...
