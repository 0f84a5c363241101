"""How does the cost grow with depth, image size and batch?

About as the multiply-accumulates do, on both sides. What a call costs apart from its arithmetic
shows at 64x64 and batch 1.
"""

from __future__ import annotations

from benchmarks import models, plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Plan
from benchmarks.results import CaseResult, Results

TITLE = "Growth with depth, size and batch"
DEPTHS = {  # ResNeSt, by the number in its name.
    "resnest14d": 14,
    "resnest26d": 26,
    "resnest50d": 50,
    "resnest101e": 101,
    "resnest200e": 200,
    "resnest269e": 269,
}
AXES = {
    "depth": "ResNeSt: depth",
    "size": "ResNet-50: height and width",
    "batch": "ResNet-50: batch",
}

PLANS = {
    Form.SMOKE: Plan(
        rounds=2, round_seconds=0.01, warm_up_seconds=0.01, most_warm_up_seconds=5, most_seconds=1
    ),
    Form.QUICK: Plan(
        rounds=3, round_seconds=0.1, warm_up_seconds=0.1, most_warm_up_seconds=10, most_seconds=4
    ),
    Form.FULL: Plan(
        rounds=9, round_seconds=0.5, warm_up_seconds=2, most_warm_up_seconds=60, most_seconds=60
    ),
}


def cases(form: Form) -> list[Case]:
    """The quick form: inference, a few points of each axis, small images."""
    if form is Form.FULL:
        modes, depths = ("training step", "inference"), tuple(DEPTHS)
        sizes, batches, size = (64, 96, 128, 160, 224, 320, 448), (1, 2, 4, 8, 16, 32, 64), 224
    elif form is Form.QUICK:
        modes, depths = ("inference",), ("resnest14d", "resnest50d")
        sizes, batches, size = (64, 224), (1, 8), 64
    else:
        modes, depths = ("inference",), ("resnest14d", "resnest26d")
        sizes, batches, size = (32, 64), (1, 2), 64
    return [
        case
        for mode in modes
        for case in (
            *(_case("depth", name, mode, size, 1) for name in depths),
            *(_case("size", "resnet50", mode, side, 1) for side in sizes),
            *(_case("batch", "resnet50", mode, size, count) for count in batches),
        )
    ]


def _case(axis: str, variant: str, mode: str, size: int, batch: int) -> Case:
    work = dict(variant=variant, size=size, batch=batch, dtype="float32")
    contenders = (
        models.keras("ours, TensorFlow", "keras_resnets", work, mode),
        models.timm(models.BASELINE, work, mode),
    )
    key = f"{axis}/{variant}/{mode}/{size}/batch{batch}"
    return Case(key, {**work, "mode": mode, "axis": axis}, contenders, models.BASELINE)


def _row(facts: dict) -> str:
    return f"{facts['variant']}, {facts['size']}x{facts['size']}, batch {facts['batch']}"


def tables_of(results: Results) -> list[tables.Table]:
    """Times, and how many times timm's each is; a table for each axis and mode."""
    return [
        tables.times(f"{mode.capitalize()}, by {axis}", group, _row)
        for (mode, axis), group in tables.grouped(results, "mode", "axis")
    ]


def position(axis: str, case: CaseResult) -> float:
    """Where a case stands on its axis."""
    return DEPTHS[case.facts["variant"]] if axis == "depth" else case.facts[axis]


def figure(results: Results) -> plots.Figure | None:
    """Seconds a call over depth, size and batch; inference, which every form measures."""
    panels = {
        title: [
            (position(axis, case), case)
            for case in tables.where(results, axis=axis, mode="inference")
        ]
        for axis, title in AXES.items()
    }
    return plots.lines("Inference, float32: seconds a call", panels)
