"""The block in README.md that shows the results, and what goes with every table."""

from __future__ import annotations

from pathlib import Path

from benchmarks import machine, plots, results, tables
from benchmarks.harness import ROOT
from benchmarks.questions import QUESTIONS

BEGIN = "<!-- benchmarks: made by python -m benchmarks --readme -->"
END = "<!-- end of benchmarks -->"


def footnotes(stored: results.Results) -> list[str]:
    """The machine, the releases and the runs behind a table, and who could not take part."""
    described = stored.machine()
    packages = ", ".join(f"{name} {release}" for name, release in described["packages"].items())
    runs = [f"{run} ({facts['form']})" for run, facts in stored.runs.items()]
    return [
        f"Measured on {machine.in_words(described)}; {packages}. Runs: {', '.join(runs)}.",
        *tables.failures(stored),
    ]


def plot_path(folder: Path, question: str) -> Path:
    return folder / f"{question}.png"


def draw(question: str, folder: Path) -> None:
    """Draws the plot of a question from its stored results."""
    figure = QUESTIONS[question].figure(results.read(folder, question))
    if figure is not None:
        plots.save(figure, plot_path(folder, question), results.path_of(folder, question))


def block(folder: Path) -> str:
    """Plots and tables of all questions as Markdown, with the command that made them."""
    parts = []
    for question, module in QUESTIONS.items():
        stored = results.read(folder, question)
        if not stored.cases:
            continue
        parts.append(f"### {module.TITLE}")
        path = plot_path(folder, question)
        if path.exists():
            parts.append(f"![{module.TITLE}]({path.relative_to(ROOT).as_posix()})")
        parts += [table.markdown() for table in module.tables_of(stored)]
        parts.append("<br>\n".join(footnotes(stored)))
        parts.append(f"```bash\npython -m benchmarks {question}{_form(stored)}\n```")
    return "\n\n".join(parts)


def _form(stored: results.Results) -> str:
    return " --full" if any(run["form"] == "full" for run in stored.runs.values()) else ""


def with_block(text: str, folder: Path) -> str:
    """The README with what is between the markers replaced.

    Raises:
        ValueError: if a marker is missing.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md must have the markers {BEGIN!r} and {END!r}, once each.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{block(folder)}\n\n{END}{rest.split(END)[1]}"


def write(folder: Path) -> None:
    path = ROOT / "README.md"
    path.write_text(with_block(path.read_text(), folder))
