"""What does a training step cost beside the network's own work?

What a run has beside `fit` is added to it one by one: images that are read from memory, cropped,
flipped and put into batches, where `fit` alone has one batch again and again; the moving average of
the weights; and what counts, watches over the loss and asks for a stop. ResNet-20 at 32x32 is where
they count most: its steps are short, and its variables as many as those of larger networks' stages.
On JAX the average asks Keras to bring the variables up to date after every step.
"""

from __future__ import annotations

from benchmarks import plots, tables
from benchmarks.form import Form
from benchmarks.harness import Case, Contender, Plan
from benchmarks.results import Results

TITLE = "Beside the training step"
BASELINE = "fit alone"
STEPS = 10
"""Steps of a call, which is one `fit`; its own beginning and end are shared by so many."""

PLANS = {
    Form.SMOKE: Plan(
        rounds=2, round_seconds=0.01, warm_up_seconds=0.01, most_warm_up_seconds=5, most_seconds=1
    ),
    Form.QUICK: Plan(
        rounds=7, round_seconds=1, warm_up_seconds=1, most_warm_up_seconds=20, most_seconds=30
    ),
    Form.FULL: Plan(
        rounds=15, round_seconds=2, warm_up_seconds=3, most_warm_up_seconds=60, most_seconds=90
    ),
}


def cases(form: Form) -> list[Case]:
    """The quick form: TensorFlow, batch 128."""
    backends = ("tensorflow", "jax") if form is Form.FULL else ("tensorflow",)
    batches = {Form.SMOKE: (2,), Form.QUICK: (128,), Form.FULL: (32, 128)}[form]
    return [_case(backend, batch) for backend in backends for batch in batches]


def _case(backend: str, batch: int) -> Case:
    work = dict(variant="resnet20", size=32, batch=batch, steps=STEPS)

    def keras(name: str, project: str, parts: list[str]) -> Contender:
        return Contender(
            name,
            project,
            "benchmarks.jobs.loop:epoch",
            dict(**work, parts=parts),
            {"KERAS_BACKEND": backend},
        )

    contenders = (
        keras(BASELINE, "Keras", []),
        keras("input", "keras_resnets", ["input"]),
        keras("moving average", "keras_resnets", ["average"]),
        keras("watching", "keras_resnets", ["steps"]),
        keras("all", "keras_resnets", ["input", "average", "steps"]),
    )
    return Case(f"{backend}/batch{batch}", {**work, "backend": backend}, contenders, BASELINE)


def _row(facts: dict) -> str:
    return f"{facts['backend']}, batch {facts['batch']}"


def tables_of(results: Results) -> list[tables.Table]:
    """Times of ten steps, and how many times `fit` alone each is."""
    title = f"{TITLE}: {STEPS} steps of ResNet-20, 32x32"
    return [tables.times(title, results.cases, _row)]


def figure(results: Results) -> plots.Figure | None:
    """Relative to `fit` alone."""
    return plots.ratio_bars(f"{TITLE}: time relative to fit alone", results.cases, _row)
