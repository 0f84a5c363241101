"""How fast do whole networks train and answer, beside timm on PyTorch and other Keras packages?

Ours is to train as fast as timm on a CPU and to answer faster, because `fold_batch_norms` takes the
batch norms out. Networks with grouped convolutions that are built from stock Keras layers
(`groups=`), ZeroModels' ResNeXt among them, take tens of times longer to train. The tables have the
numbers of a machine.

Images of 224x224; random weights. A training step is forward, loss, backward, SGD with momentum.
"""

from __future__ import annotations

from benchmarks import plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Contender, Plan
from benchmarks.results import CaseResult, Results

TITLE = "Whole networks"
BASELINE = "timm, PyTorch"
MODELS = (
    "resnet50",
    "resnext50_32x4d",
    "resnest50d",
    "res2net50_26w_4s",
    "rexnet_100",
    "seresnet50",
)
QUICK_MODELS = MODELS[1:-1]
"""One of each other family; they train in the quick form, and `deployed` has one that answers."""

PEERS = {  # Which of our six networks a Keras package has.
    "keras.applications": ("resnet50",),
    "KerasHub": ("resnet50",),
    "ZeroModels": ("resnet50", "resnext50_32x4d", "res2net50_26w_4s"),
}
GROUPED = ("resnext50_32x4d", "resnest50d")
"""With grouped convolutions; the others have none, or only depthwise ones."""

PLANS = {
    Form.SMOKE: Plan(
        rounds=2, round_seconds=0.01, warm_up_seconds=0.01, most_warm_up_seconds=5, most_seconds=5
    ),
    Form.QUICK: Plan(
        rounds=3, round_seconds=0.4, warm_up_seconds=0.4, most_warm_up_seconds=15, most_seconds=10
    ),
    Form.FULL: Plan(
        rounds=9, round_seconds=1, warm_up_seconds=3, most_warm_up_seconds=60, most_seconds=40
    ),
}


def cases(form: Form) -> list[Case]:
    """The quick form: training, ours and timm's eager mode at batch 8, stock `groups=` at 1."""
    if form is Form.FULL:
        return [_slowest(form, 224)] + [
            _case(form, variant, mode, dtype, 224, batch)
            for batch in (8, 32)
            for dtype in ("float32", "bfloat16")
            for variant in MODELS
            for mode in ("training step", "inference")
        ]
    size, batch = (64, 2) if form is Form.SMOKE else (224, 8)
    variants, modes = QUICK_MODELS, ("training step",)
    if form is Form.SMOKE:
        variants, modes = MODELS[1:2], ("training step", "inference")
    found = [
        _case(form, variant, mode, "float32", size, batch) for mode in modes for variant in variants
    ]
    return [*found, _slowest(form, size)]


def _slowest(form: Form, size: int) -> Case:
    """One image, because a step of stock `groups=` takes seconds for each."""
    return _case(form, "resnext50_32x4d", "training step", "float32", size, 1)


def _case(form: Form, variant: str, mode: str, dtype: str, size: int, batch: int) -> Case:
    work = dict(variant=variant, size=size, batch=batch, dtype=dtype)
    contenders = [
        keras("ours, TensorFlow", "keras_resnets", work, mode),
        timm(BASELINE, work, mode),
    ]
    # A step of stock `groups=` takes more than a minute at batch 8.
    stock = variant in GROUPED and mode == "training step" and dtype == "float32"
    stock = stock and batch <= (8 if form is Form.FULL else 1)
    if stock:
        contenders.append(keras("Keras groups=, TensorFlow", "stock groups=", work, mode))
    if form is Form.FULL:
        contenders.insert(
            1, keras("ours, TensorFlow XLA", "keras_resnets", work, mode, jit_compile=True)
        )
        contenders.insert(2, keras("ours, JAX", "keras_resnets", work, mode, backend="jax"))
        contenders.append(timm("timm, torch.compile", work, mode, compiled=True))
        contenders += [
            keras(f"{peer}, TensorFlow", peer, work, mode)
            for peer, variants in PEERS.items()
            if variant in variants
        ]
        if stock:
            contenders += [
                keras(
                    "Keras groups=, TensorFlow XLA", "stock groups=", work, mode, jit_compile=True
                ),
                keras("Keras groups=, JAX", "stock groups=", work, mode, backend="jax"),
            ]
    key = f"{variant}/{mode}/{dtype}/{size}/batch{batch}"
    return Case(key, {**work, "mode": mode}, tuple(contenders), BASELINE)


def keras(
    name: str,
    source: str,
    work: dict,
    mode: str,
    *,
    backend: str = "tensorflow",
    jit_compile: bool = False,
) -> Contender:
    """A Keras model of `source`; ours has its batch norms folded for inference."""
    arguments = dict(**work, source=source, jit_compile=jit_compile or backend == "jax")
    job = "training_step"
    if mode == "inference":
        job = "inference"
        arguments["folded"] = source == "keras_resnets"
    project = "Keras" if source == "stock groups=" else source
    return Contender(
        name,
        project,
        f"benchmarks.jobs.keras_model:{job}",
        arguments,
        {"KERAS_BACKEND": backend},
    )


def timm(name: str, work: dict, mode: str, *, compiled: bool = False) -> Contender:
    """timm's network of the same name, eager or compiled."""
    job = "training_step" if mode == "training step" else "inference"
    return Contender(
        name,
        "PyTorch",
        f"benchmarks.jobs.torch_model:{job}",
        dict(**work, compiled=compiled),
    )


def _row(facts: dict) -> str:
    return facts["variant"]


def tables_of(results: Results) -> list[tables.Table]:
    """Times, and how many times timm's each is; one table for each mode, type and batch."""
    return [
        tables.times(f"{mode.capitalize()}, {dtype}, {size}x{size}, batch {batch}", group, _row)
        for (mode, dtype, size, batch), group in tables.grouped(
            results, "mode", "dtype", "size", "batch"
        )
    ]


def figure(results: Results) -> plots.Figure | None:
    """Ratios to timm at batch 8 (or what there is) in float32; training beside inference."""
    batch = _batch(results.cases)
    panels = {
        mode.capitalize(): tables.where(results, mode=mode, dtype="float32", batch=batch)
        for mode in ("training step", "inference")
    }
    return plots.ratio_panels(
        f"Time relative to timm on PyTorch (eager), float32, batch {batch}",
        panels,
        _row,
        logarithmic=True,
    )


def _batch(cases: list[CaseResult]) -> int | None:
    """The batch that most cases have; 8 before others."""
    batches = [case.facts["batch"] for case in cases]
    return 8 if 8 in batches else max(batches, default=None, key=batches.count)
