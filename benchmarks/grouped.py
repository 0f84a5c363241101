"""How fast is a grouped 3x3 convolution, ours, Keras' own, a hand-made one, and PyTorch's?

Ours trains about as fast as PyTorch's on TensorFlow, and hundreds of times faster than
`keras.layers.Conv2D(groups=)`, whose gradients go through XLA on a CPU. Where XLA compiles anyway
(JAX, `jit_compile=True`) blocks of groups keep ours within a small factor. The tables have the
numbers of a machine.

The shapes are those of the four stages of ResNeXt-50 32x4d and of split attention with radix 2.
"""

from __future__ import annotations

from benchmarks import plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Contender, Plan
from benchmarks.results import Results

TITLE = "A grouped 3x3 convolution"
BASELINE = "PyTorch"
JAX = {"KERAS_BACKEND": "jax"}
TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}

# Height and width, channels, groups.
SHAPES = ((56, 128, 32), (28, 256, 32), (14, 512, 32), (7, 1024, 32), (56, 128, 2))

PLANS = {
    Form.SMOKE: Plan(
        rounds=2, round_seconds=0.01, warm_up_seconds=0.01, most_warm_up_seconds=1, most_seconds=1
    ),
    Form.QUICK: Plan(
        rounds=5, round_seconds=0.1, warm_up_seconds=0.1, most_warm_up_seconds=4, most_seconds=2
    ),
    Form.FULL: Plan(
        rounds=15, round_seconds=0.2, warm_up_seconds=0.5, most_warm_up_seconds=30, most_seconds=60
    ),
}


def cases(form: Form) -> list[Case]:
    """The quick form: float32, a shape at each stride; stock `groups=` on TensorFlow."""
    batch = 2 if form is Form.SMOKE else 8
    dtypes = ("float32", "bfloat16") if form is Form.FULL else ("float32",)
    shapes = {
        Form.SMOKE: {1: SHAPES[2:3], 2: SHAPES[2:3]},
        Form.QUICK: {1: SHAPES[2:3], 2: SHAPES[1:2]},
        Form.FULL: {1: SHAPES, 2: SHAPES},
    }[form]
    return [
        _case(form, shape, stride, batch, dtype, backward)
        for dtype in dtypes
        for stride in (1, 2)
        for shape in shapes[stride]
        for backward in (False, True)
    ]


def _case(
    form: Form, shape: tuple[int, int, int], stride: int, batch: int, dtype: str, backward: bool
) -> Case:
    size, channels, groups = shape
    work = dict(
        size=size, channels=channels, groups=groups, stride=stride, batch=batch, dtype=dtype
    )
    mode = "forward + backward" if backward else "forward"
    full = form is Form.FULL

    def keras(
        name: str, project: str, implementation: str, environment: dict[str, str], jit: bool
    ) -> Contender:
        arguments = dict(**work, implementation=implementation, backward=backward, jit_compile=jit)
        return Contender(
            name, project, "benchmarks.jobs.grouped:keras_layer", arguments, environment
        )

    contenders = [
        keras("ours, TensorFlow", "keras_resnets", "ours", TENSORFLOW, False),
        keras("ours, TensorFlow XLA", "keras_resnets", "ours", TENSORFLOW, True),
        keras("ours, JAX", "keras_resnets", "ours", JAX, True),
        Contender(
            BASELINE,
            "PyTorch",
            "benchmarks.jobs.grouped:torch_layer",
            dict(**work, backward=backward),
        ),
        keras("split and concat, TensorFlow", "by hand", "split", TENSORFLOW, False),
    ]
    if stride == 1 or full:
        contenders.append(keras("Keras groups=, TensorFlow", "Keras", "stock", TENSORFLOW, False))
    if full:
        contenders += [
            keras("split and concat, JAX", "by hand", "split", JAX, True),
            keras("Keras groups=, JAX", "Keras", "stock", JAX, True),
        ]
    key = f"{size}x{size}x{channels}/groups{groups}/stride{stride}/batch{batch}/{dtype}/{mode}"
    return Case(key, {**work, "mode": mode}, tuple(contenders), BASELINE)


def _row(facts: dict) -> str:
    return (
        f"{facts['size']}x{facts['size']}, {facts['channels']} channels, {facts['groups']} groups"
    )


def tables_of(results: Results) -> list[tables.Table]:
    """Times, and how many times PyTorch's each is; one table for each mode, stride and type."""
    return [
        tables.times(f"{TITLE}: {mode}, stride {stride}, batch {batch}, {dtype}", group, _row)
        for (mode, stride, batch, dtype), group in tables.grouped(
            results, "mode", "stride", "batch", "dtype"
        )
    ]


def figure(results: Results) -> plots.Figure | None:
    """Forward and backward at stride 1 in float32, relative to PyTorch."""
    chosen = tables.where(results, mode="forward + backward", stride=1, dtype="float32")
    return plots.ratio_bars(
        f"{TITLE}, forward + backward: time relative to PyTorch", chosen, _row, logarithmic=True
    )
