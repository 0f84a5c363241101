"""How long until a new process trains, and how much memory does training take?

Longer than PyTorch's: TensorFlow is imported, Keras walks the graph, and the first step traces it.
Training holds more memory, too: TensorFlow's own at the start, and outputs that PyTorch's in-place
ReLUs overwrite; `remat=True` trains in less than PyTorch. The tables have the numbers of a machine.

Every round of every contender is a process of its own, which imports, builds, takes a few training
steps, and ends. ResNeSt-269, the deepest network of the package, is built only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from benchmarks import harness, plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Contender, Plan
from benchmarks.results import CaseResult, Measured, Results

TITLE = "Start and memory"
BASELINE = "timm, PyTorch"
BUILD_ONLY = ("import", "build")
PHASES = (*BUILD_ONLY, "first step", "memory before", "peak memory")
"""What is measured; the last two are memory: before building, and the peak."""

REMATERIALIZED = ("resnet152",)
"""Networks that are also built with `remat=True`."""

# Only rounds matter here.
PLANS = {
    Form.SMOKE: Plan(
        rounds=1, round_seconds=0, warm_up_seconds=0, most_warm_up_seconds=0, most_seconds=0
    ),
    Form.QUICK: Plan(
        rounds=1, round_seconds=0, warm_up_seconds=0, most_warm_up_seconds=0, most_seconds=0
    ),
    Form.FULL: Plan(
        rounds=5, round_seconds=0, warm_up_seconds=0, most_warm_up_seconds=0, most_seconds=0
    ),
}


def cases(form: Form) -> list[Case]:
    """The quick form: ours and timm; ResNet-50 at batch 32 for two steps, and ResNeSt-269."""
    if form is Form.SMOKE:
        return [_case(form, "resnet50", 64, 2, 2), _case(form, "resnest14d", 64, 2, 0)]
    found = [
        _case(form, "resnet50", 224, 32, 2),
        _case(form, "resnest269e", 224, 1, 0),
    ]
    if form is Form.FULL:
        found += [
            _case(form, variant, 224, 32, 3)
            for variant in ("resnext50_32x4d", "resnest50d", "res2net50_26w_4s", "rexnet_100")
        ]
        found.append(_case(form, "resnet152", 224, 32, 1))
    return found


def _case(form: Form, variant: str, size: int, batch: int, steps: int) -> Case:
    work = dict(variant=variant, size=size, batch=batch, steps=steps)

    def keras(name: str, source: str, package: str, backend: str = "tensorflow") -> Contender:
        return Contender(
            name,
            source.partition(",")[0],
            "benchmarks.jobs.startup:keras_phases",
            dict(**work, source=source, package=package),
            {"KERAS_BACKEND": backend},
        )

    contenders = [
        keras("ours, TensorFlow", "keras_resnets", "keras_resnets"),
        Contender(BASELINE, "PyTorch", "benchmarks.jobs.startup:torch_phases", work),
    ]
    if variant in REMATERIALIZED:
        remat = keras("ours, TensorFlow, remat", "keras_resnets, remat", "keras_resnets")
        contenders.insert(1, remat)
    if form is Form.FULL:
        contenders.insert(1, keras("ours, JAX", "keras_resnets", "keras_resnets", "jax"))
        if variant == "resnet50":
            contenders += [
                keras("keras.applications, TensorFlow", "keras.applications", "keras"),
                keras("KerasHub, TensorFlow", "KerasHub", "keras_hub"),
                keras("ZeroModels, TensorFlow", "ZeroModels", "zeromodels"),
            ]
    key = f"{variant}/{size}/batch{batch}/steps{steps}"
    return Case(key, work, tuple(contenders), BASELINE)


def measure(
    cases: Iterable[Case],
    plan: Plan,
    run: str,
    new_worker: Callable[[Contender], harness.Worker],
    timeout: float,
    tell: Callable[[str], None],
) -> Iterator[CaseResult]:
    """Like `harness.measure`, with a new process for every round: yields a case a phase."""
    for case in cases:
        tell(case.key)
        rounds: dict[str, list[dict[str, float]]] = {c.name: [] for c in case.contenders}
        errors: dict[str, str] = {}
        for number in range(plan.rounds):
            for contender in harness.in_turn(list(case.contenders), number):
                if contender.name in errors:
                    continue
                try:
                    phases = harness.report_once(contender, new_worker, timeout)
                except harness.WorkerError as error:
                    errors[contender.name] = str(error)
                    tell(f"  {contender.name}: {error}")
                    continue
                rounds[contender.name].append(phases)
                told = ", ".join(f"{phase} {value:.4g}" for phase, value in phases.items())
                tell(f"  {contender.name}: {told}")
        for phase in PHASES if case.facts["steps"] else BUILD_ONLY:
            contenders = {
                contender.name: Measured(contender.project, error=errors[contender.name])
                if contender.name in errors
                else Measured(
                    contender.project, [phases[phase] for phases in rounds[contender.name]]
                )
                for contender in case.contenders
            }
            yield CaseResult(
                f"{case.key}/{phase}",
                {**case.facts, "phase": phase},
                "B" if "memory" in phase else "s",
                case.baseline,
                run,
                contenders,
            )


def _row(facts: dict) -> str:
    return f"{facts['variant']}: {facts['phase']}"


def tables_of(results: Results) -> list[tables.Table]:
    """Time and memory by phase, and how many times timm's each is; a table a batch."""
    return [
        tables.times(f"{TITLE}: {size}x{size}, batch {batch}", group, _row)
        for (size, batch), group in tables.grouped(results, "size", "batch")
    ]


def figure(results: Results) -> plots.Figure | None:
    """Ratios to timm of every phase."""
    return plots.ratio_bars(f"{TITLE}, relative to timm on PyTorch", results.cases, _row)
