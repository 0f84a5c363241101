"""How fast is a trained network once it is folded and exported?

The batch norms are folded into the convolutions, Keras exports what is left, and each format is run
by its own runtime: TensorFlow, LiteRT with XNNPACK, ONNX Runtime, OpenVINO. All are faster than
timm's network in PyTorch's eager mode; which is the fastest depends on the network. The tables have
the numbers of a machine.
"""

from __future__ import annotations

from benchmarks import models, plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Contender, Plan
from benchmarks.results import Results

TITLE = "Folded and exported networks"
RUNTIMES = ("SavedModel", "LiteRT", "ONNX Runtime", "OpenVINO")

PLANS = {
    Form.SMOKE: Plan(
        rounds=2, round_seconds=0.01, warm_up_seconds=0.01, most_warm_up_seconds=5, most_seconds=1
    ),
    Form.QUICK: Plan(
        rounds=3, round_seconds=0.3, warm_up_seconds=0.3, most_warm_up_seconds=10, most_seconds=5
    ),
    Form.FULL: Plan(
        rounds=15, round_seconds=1, warm_up_seconds=2, most_warm_up_seconds=30, most_seconds=60
    ),
}


def cases(form: Form) -> list[Case]:
    """The quick form: the smallest of the six networks, at batch 8."""
    size = 64 if form is Form.SMOKE else 224
    batches = {Form.SMOKE: (2,), Form.QUICK: (8,), Form.FULL: (1, 8)}[form]
    variants = {
        Form.SMOKE: ("resnest50d",),
        Form.QUICK: ("rexnet_100",),
        Form.FULL: models.MODELS,
    }[form]
    return [_case(form, variant, size, batch) for variant in variants for batch in batches]


def _case(form: Form, variant: str, size: int, batch: int) -> Case:
    work = dict(variant=variant, size=size, batch=batch)
    eager = dict(**work, dtype="float32")
    contenders = [
        models.keras("ours, TensorFlow", "keras_resnets", eager, "inference"),
        *(_exported(runtime, work) for runtime in RUNTIMES),
        models.timm(models.BASELINE, eager, "inference"),
    ]
    if form is Form.FULL:
        contenders += [
            models.timm("timm, torch.compile", eager, "inference", compiled=True),
            Contender(
                "timm, TorchScript frozen",
                "PyTorch",
                "benchmarks.jobs.torch_model:inference",
                dict(**eager, compiled=False, frozen=True),
            ),
        ]
    key = f"{variant}/float32/{size}/batch{batch}"
    return Case(key, eager, tuple(contenders), models.BASELINE)


def _exported(runtime: str, work: dict) -> Contender:
    return Contender(
        f"ours, {runtime}",
        "keras_resnets",
        "benchmarks.jobs.deployed:inference",
        dict(**work, form=runtime),
        {"KERAS_BACKEND": "tensorflow"},
    )


def _row(facts: dict) -> str:
    return facts["variant"]


def tables_of(results: Results) -> list[tables.Table]:
    """Times, and how many times timm's each is; one table for each batch."""
    return [
        tables.times(f"Inference, float32, {size}x{size}, batch {batch}", group, _row)
        for (size, batch), group in tables.grouped(results, "size", "batch")
    ]


def figure(results: Results) -> plots.Figure | None:
    """Ratios to timm, a panel a batch."""
    panels = {f"Batch {batch}": group for (batch,), group in tables.grouped(results, "batch")}
    return plots.ratio_panels(
        "Folded and exported, float32: time relative to timm on PyTorch (eager)", panels, _row
    )
