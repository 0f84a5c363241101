"""Measure, print the tables, draw the plots.

python -m benchmarks                          # all questions, quickly
python -m benchmarks models --full --only "resnet50/*"
python -m benchmarks models --full --only "*/bfloat16/*" --contender "ours, TensorFlow"
python -m benchmarks --report                 # no measuring: tables and plots of what is stored
python -m benchmarks --readme                 # the same, and the block in README.md
"""

from __future__ import annotations

import fnmatch
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import harness, machine, readme, results
from benchmarks.form import Form
from benchmarks.questions import QUESTIONS

FOLDER = Path(__file__).parent / "results"
TIMEOUTS = {Form.SMOKE: 120, Form.QUICK: 120, Form.FULL: 1800}
"""Seconds that one answer of a contender may take."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@app.command()
def main(
    questions: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(QUESTIONS)}; default: all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Everything; takes hours.")] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Tiny sizes, into a temporary folder: does it run?")
    ] = False,
    only: Annotated[
        str, typer.Option(help="Only cases whose key matches this pattern, with * and ?.")
    ] = "*",
    contenders: Annotated[
        list[str] | None,
        typer.Option(
            "--contender",
            help="Only contenders whose name matches; may be given several times. The one that "
            "others are compared with always takes part.",
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Measure nothing: tables and plots of stored results.")
    ] = False,
    write_readme: Annotated[
        bool, typer.Option("--readme", help="Like --report, and write the block in README.md.")
    ] = False,
    folder: Annotated[Path, typer.Option("--results", help="Folder of results.")] = FOLDER,
    threads: Annotated[int, typer.Option(help="Threads and cores of every contender.")] = min(
        2, os.cpu_count() or 1
    ),
) -> None:
    """Measure keras_resnets and its peers side by side."""
    unknown = set(questions or ()) - set(QUESTIONS)
    if unknown:
        raise typer.BadParameter(
            f"questions must be of {', '.join(QUESTIONS)}. Received: {', '.join(sorted(unknown))}"
        )
    if smoke:
        folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    form = Form.FULL if full else Form.SMOKE if smoke else Form.QUICK
    for question in questions or QUESTIONS:
        if not (report or write_readme):
            measure(question, form, only, contenders or ["*"], folder, threads)
        show(question, folder)
    if write_readme:
        readme.write(folder)
    console.print(f"Results and plots are in {folder}", soft_wrap=True)


def measure(
    question: str, form: Form, only: str, contenders: list[str], folder: Path, threads: int
) -> None:
    """Measures the chosen cases of a question; each is stored as soon as it is measured."""
    module = QUESTIONS[question]
    cases = [
        harness.between(case, contenders)
        for case in module.cases(form)
        if fnmatch.fnmatch(case.key, only)
    ]
    if not cases:
        return
    began = time.perf_counter()
    plan = module.PLANS[form]
    described = machine.describe(threads)
    stored = results.read(folder, question)
    if stored.runs and not machine.same(stored.machine(), described):
        console.print(f"{question}: what is stored is of another machine; starting afresh.")
        stored = results.Results(question)
    run = harness.now()
    stored.runs[run] = {"machine": described, "form": form.value, "rounds": plan.rounds}
    folder.mkdir(parents=True, exist_ok=True)
    with harness.workers(threads, folder / "contenders.log") as worker_of:
        measured = getattr(module, "measure", harness.measure)(
            cases, plan, run, worker_of, TIMEOUTS[form], tell=_tell
        )
        for case in measured:
            stored.add(case)
            results.write(folder, stored)
    console.print(f"{question}: {len(cases)} cases in {time.perf_counter() - began:.0f} s")


def _tell(line: str) -> None:
    console.print(line, style="dim", highlight=False, soft_wrap=True)


def show(question: str, folder: Path) -> None:
    """Prints the tables of a question and draws its plot."""
    module = QUESTIONS[question]
    stored = results.read(folder, question)
    if not stored.cases:
        return
    wide = Console(width=max(console.width, 200)) if not console.is_terminal else console
    for table in module.tables_of(stored):
        wide.print(table.rich())
    for line in readme.footnotes(stored):
        console.print(line, style="dim", highlight=False, soft_wrap=True)
    readme.draw(question, folder)


if __name__ == "__main__":
    app()
