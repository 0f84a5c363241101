"""What a measurement is, how it is stored, and the statistics that are drawn from it.

A file of results holds the values as they were measured; medians, quartiles and ratios are computed
when they are read, so that a table cannot disagree with the data beside it:

    {"question": "models",
     "runs": {"2026-01-31T12:00:00": {"machine": {...}, "form": "quick", "rounds": 5}},
     "cases": [{"key": "resnet50/train/float32/224/8", "facts": {"model": "resnet50", ...},
                "unit": "s", "baseline": "timm", "run": "2026-01-31T12:00:00",
                "contenders": {"timm": {"project": "PyTorch", "values": [1.8, 1.9, 1.8]},
                               "other": {"project": "Keras", "error": "OSError: ..."}}}]}

Values are seconds a call ("s") or bytes ("B"), one a round. Contenders took part in the same rounds
in turn, so the n-th value of one is compared with the n-th of another.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

UNITS = ("s", "B")


class Spread(NamedTuple):
    """Median and quartiles of some values."""

    low: float
    median: float
    high: float


def spread(values: list[float]) -> Spread:
    """Lower quartile, median and upper quartile.

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError(f"a spread needs at least one value. Received: values={values!r}")
    return Spread(*(float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))))


def ratio_spread(values: list[float], baseline: list[float]) -> Spread:
    """Spread of the ratios round by round: what changed for both in a round cancels out.

    A slow contender may have had fewer rounds; only those in which both took part count.
    """
    return spread([a / b for a, b in zip(values, baseline, strict=False)])


@dataclasses.dataclass(frozen=True)
class Measured:
    """One contender of a case: its values, or why there are none."""

    project: str
    values: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """One case: the same work, done by several contenders in turn.

    Attributes:
        key: identifies the case within its question, such as `"resnet50/train/float32/224/8"`.
        facts: what was measured, for tables and plots.
        unit: `"s"` or `"B"`.
        baseline: the contender that ratios are taken against.
        run: key of the run, in the file's `"runs"`.
        contenders: by name, in the order of the tables.
    """

    key: str
    facts: dict[str, Any]
    unit: str
    baseline: str
    run: str
    contenders: dict[str, Measured]

    def spread(self, name: str) -> Spread | None:
        """Of a contender's values; None if it has none."""
        measured = self.contenders.get(name)
        return spread(measured.values) if measured and measured.values else None

    def ratio(self, name: str, to: str | None = None) -> Spread | None:
        """A contender's value over another's (default: the baseline's); None without both."""
        mine, other = self.contenders.get(name), self.contenders.get(to or self.baseline)
        if not (mine and other and mine.values and other.values):
            return None
        return ratio_spread(mine.values, other.values)


@dataclasses.dataclass
class Results:
    """All that was measured for a question."""

    question: str
    runs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    cases: list[CaseResult] = dataclasses.field(default_factory=list)

    def add(self, case: CaseResult) -> None:
        """Adds a case in place of an older measurement of it; forgets runs without cases."""
        keys = [old.key for old in self.cases]
        if case.key in keys:
            self.cases[keys.index(case.key)] = case
        else:
            self.cases.append(case)
        used = {old.run for old in self.cases}
        self.runs = {run: facts for run, facts in self.runs.items() if run in used}

    def machine(self) -> dict[str, Any]:
        """The machine of the latest run."""
        return self.runs[max(self.runs)]["machine"]


def path_of(folder: Path, question: str) -> Path:
    return folder / f"{question}.json"


def read(folder: Path, question: str) -> Results:
    """The stored results of a question; empty ones if there is no file.

    Raises:
        ValueError: if the file is not of the form described above. The message names the place.
    """
    path = path_of(folder, question)
    if not path.exists():
        return Results(question)
    content = json.loads(path.read_text())
    problem = find_problem(content)
    if problem:
        raise ValueError(f"results must have the documented form: {problem}. Received: {path}")
    cases = [
        CaseResult(
            **{
                **case,
                "contenders": {
                    name: Measured(**measured) for name, measured in case["contenders"].items()
                },
            }
        )
        for case in content["cases"]
    ]
    return Results(content["question"], content["runs"], cases)


def write(folder: Path, results: Results) -> Path:
    """Writes the results of a question, whole or not at all; returns the path."""
    content = dataclasses.asdict(results)
    for case in content["cases"]:
        for measured in case["contenders"].values():
            del measured["values" if measured["error"] else "error"]
    problem = find_problem(content)
    if problem:
        raise ValueError(f"results must have the documented form: {problem}.")
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, results.question)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)
    return path


def find_problem(content: Any) -> str | None:
    """What is wrong with the content of a file of results; None if nothing is."""
    if not isinstance(content, dict) or set(content) != {"question", "runs", "cases"}:
        return "not an object of question, runs and cases"
    for run, facts in content["runs"].items():
        if set(facts) != {"machine", "form", "rounds"}:
            return f"run {run!r} has not machine, form and rounds"
    fields = {field.name for field in dataclasses.fields(CaseResult)}
    keys = set()
    for case in content["cases"]:
        key = case.get("key")
        if set(case) != fields:
            return f"case {key!r} has not the fields {', '.join(sorted(fields))}"
        if key in keys:
            return f"case {key!r} occurs twice"
        keys.add(key)
        if case["unit"] not in UNITS:
            return f"case {key!r} has the unit {case['unit']!r}, none of {UNITS}"
        if case["run"] not in content["runs"]:
            return f"case {key!r} is of the unknown run {case['run']!r}"
        if case["baseline"] not in case["contenders"]:
            return f"case {key!r} has no contender {case['baseline']!r}, its baseline"
        for name, measured in case["contenders"].items():
            wrong = _problem_of_contender(measured)
            if wrong:
                return f"case {key!r}, contender {name!r}: {wrong}"
    return None


def _problem_of_contender(measured: dict[str, Any]) -> str | None:
    if set(measured) == {"project", "error"}:
        return None if isinstance(measured["error"], str) else "error is not a text"
    if set(measured) != {"project", "values"}:
        return "not a project with either values or an error"
    values = measured["values"]
    if not values or not all(isinstance(value, (int, float)) and value > 0 for value in values):
        return f"values must be positive numbers, at least one; they are {values!r}"
    return None
