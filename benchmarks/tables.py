"""Tables of times and ratios, for the terminal (Rich) and for README (Markdown)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import rich.table

from benchmarks.results import CaseResult, Results

Describe = Callable[[dict[str, Any]], str]
"""What a row is called, from the facts of its case."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with a title; all cells are text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> rich.table.Table:
        """For a terminal."""
        table = rich.table.Table(title=self.title, title_justify="left", header_style="bold")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For README."""
        lines = [
            f"**{self.title}**",
            "",
            _line(self.columns),
            _line(["---"] + ["--:"] * (len(self.columns) - 1)),
            *map(_line, self.rows),
        ]
        return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def times(title: str, cases: list[CaseResult], describe: Describe) -> Table:
    """A row a case, a column a contender: median, ratio to the baseline, its quartiles."""
    names = contender_names(cases)
    rows = tuple((describe(case.facts), *(cell(case, name) for name in names)) for case in cases)
    return Table(title, ("", *names), rows)


def cell(case: CaseResult, name: str) -> str:
    """`"1.80 s"` for the baseline, `"1.62 s, 0.90x (0.88-0.93)"` for others."""
    if name not in case.contenders:
        return ""
    found = case.spread(name)
    if found is None:
        return "failed"
    value = quantity(found.median, case.unit)
    ratio = case.ratio(name)
    if name == case.baseline or ratio is None:
        return value
    quartiles = f" ({significant(ratio.low)}-{significant(ratio.high)})"
    return f"{value}, {times_text(ratio.median)}{quartiles if ratio.low < ratio.high else ''}"


def times_text(ratio: float) -> str:
    """A ratio as text: `"0.90x"`."""
    return f"{significant(ratio)}x"


def significant(value: float) -> str:
    """Three digits, no exponent: 0.0123, 0.90, 1.23, 12.3, 123, 1,234."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def quantity(value: float, unit: str) -> str:
    """A value with its unit: seconds or milliseconds, mebibytes."""
    if unit == "B":
        return f"{significant(value / 2**20)} MiB"
    return f"{significant(value)} s" if value >= 1 else f"{significant(value * 1e3)} ms"


def failures(results: Results) -> list[str]:
    """Who could not take part in what, and why, a line a reason."""
    reasons: dict[tuple[str, str], int] = {}
    for case in results.cases:
        for name, measured in case.contenders.items():
            if measured.error:
                key = (name, measured.error)
                reasons[key] = reasons.get(key, 0) + 1
    return [f"{name}, in {count} cases: {error}" for (name, error), count in reasons.items()]


def contender_names(cases: Iterable[CaseResult]) -> list[str]:
    """All contenders of some cases, in the order in which they take part."""
    longest = sorted(cases, key=lambda case: -len(case.contenders))
    return list(dict.fromkeys(name for case in longest for name in case.contenders))


def where(results: Results, **facts: Any) -> list[CaseResult]:
    """The cases with these facts."""
    return [
        case
        for case in results.cases
        if all(case.facts.get(fact) == value for fact, value in facts.items())
    ]


def grouped(results: Results, *facts: str) -> Iterator[tuple[tuple, list[CaseResult]]]:
    """Cases that have the values of some facts in common, with these values, sorted."""

    def key(case: CaseResult) -> tuple:
        return tuple(case.facts[fact] for fact in facts)

    for values, group in itertools.groupby(sorted(results.cases, key=key), key):
        yield values, list(group)
