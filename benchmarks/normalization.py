"""How fast does a batch norm train, ours, Keras' own, and PyTorch's?

Ours is one fused operation on TensorFlow. oneDNN's is fast only for a multiple of 16 channels, so
ours fills them up; "not filled up" shows what that is worth. The shapes are those of ResNet-50,
whose channels are multiples of 16, and of ReXNet and Res2Net, whose channels are not.
"""

from __future__ import annotations

from benchmarks import grouped, plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Contender
from benchmarks.results import Results

TITLE = "A batch norm in training"
BASELINE = "PyTorch"
TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}

# Height and width, channels.
SHAPES = ((56, 256), (56, 162), (28, 52), (14, 1024), (14, 504))

PLANS = grouped.PLANS  # A single layer, too.


def cases(form: Form) -> list[Case]:
    """The quick form: float32 for two of the shapes."""
    batch = 2 if form is Form.SMOKE else 8
    shapes = {Form.SMOKE: SHAPES[2:3], Form.QUICK: SHAPES[:2], Form.FULL: SHAPES}[form]
    dtypes = ("float32", "bfloat16") if form is Form.FULL else ("float32",)
    return [_case(shape, batch, dtype) for dtype in dtypes for shape in shapes]


def _case(shape: tuple[int, int], batch: int, dtype: str) -> Case:
    size, channels = shape
    work = dict(size=size, channels=channels, batch=batch, dtype=dtype)

    def keras(name: str, project: str, implementation: str) -> Contender:
        arguments = dict(**work, implementation=implementation)
        job = "benchmarks.jobs.normalization:keras_layer"
        return Contender(name, project, job, arguments, TENSORFLOW)

    contenders = (
        keras("ours, TensorFlow", "keras_resnets", "ours"),
        keras("not filled up, TensorFlow", "by hand", "not filled up"),
        keras("Keras, TensorFlow", "Keras", "stock"),
        Contender(BASELINE, "PyTorch", "benchmarks.jobs.normalization:torch_layer", work),
    )
    return Case(f"{size}x{size}x{channels}/batch{batch}/{dtype}", work, contenders, BASELINE)


def _row(facts: dict) -> str:
    return f"{facts['size']}x{facts['size']}, {facts['channels']} channels"


def tables_of(results: Results) -> list[tables.Table]:
    """Times forward and backward, and how many times PyTorch's each is; a table a type."""
    return [
        tables.times(f"{TITLE}: forward + backward, batch {batch}, {dtype}", group, _row)
        for (batch, dtype), group in tables.grouped(results, "batch", "dtype")
    ]


def figure(results: Results) -> plots.Figure | None:
    """Float32, relative to PyTorch."""
    chosen = tables.where(results, dtype="float32")
    return plots.ratio_bars(f"{TITLE}: time relative to PyTorch", chosen, _row)
