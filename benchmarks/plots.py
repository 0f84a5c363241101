"""Plots of results: bars of ratios and lines of growth, readable at the width of a README."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks import tables
from benchmarks.results import CaseResult

COLORS = {
    "keras_resnets": "#c1121f",
    "PyTorch": "#6c757d",
    "Keras": "#457b9d",
    "by hand": "#e9a03b",
    "keras.applications": "#1d3557",
    "KerasHub": "#2a9d8f",
    "ZeroModels": "#8a5fbf",
}
"""One colour a project in every plot; several contenders of one project share it, fading."""

FADING = (1.0, 0.65, 0.4, 0.25, 0.15)
WIDTH = 8.0  # Inches; at 160 dots an inch twice the 800 pixels that a README shows.
DPI = 160


def save(figure: Figure, path: Path, source: Path) -> None:
    """Writes a PNG that says, in its description, of which file of results it was drawn."""
    figure.savefig(
        path,
        dpi=DPI,
        bbox_inches="tight",
        facecolor="white",
        metadata={"Description": digest(source)},
    )


def digest(source: Path) -> str:
    """SHA-256 of a file of results, to see whether a plot is of that state of it."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def styles(cases: list[CaseResult]) -> dict[str, dict]:
    """Colour and opacity of each contender."""
    projects = {name: m.project for case in cases for name, m in case.contenders.items()}
    seen: dict[str, int] = {}
    found = {}
    for name in tables.contender_names(cases):
        project = projects[name]
        number = seen[project] = seen.get(project, -1) + 1
        found[name] = dict(color=COLORS[project], alpha=FADING[min(number, len(FADING) - 1)])
    return found


def ratio_bars(
    title: str, cases: list[CaseResult], describe: tables.Describe, *, logarithmic: bool = False
) -> Figure | None:
    """Bars of every contender's ratio to the baseline, labelled; None if nothing was measured."""
    return ratio_panels(title, {"": cases}, describe, logarithmic=logarithmic)


def ratio_panels(
    title: str,
    panels: dict[str, list[CaseResult]],
    describe: tables.Describe,
    *,
    logarithmic: bool = False,
) -> Figure | None:
    """Several `ratio_bars` under each other, with a title each; None if nothing was measured."""
    panels = {name: cases for name, cases in panels.items() if _rows(cases, describe)}
    if not panels:
        return None
    colors = styles([case for cases in panels.values() for case in cases])
    heights = [len(_rows(cases, describe)) for cases in panels.values()]
    figure = Figure(figsize=(WIDTH, 0.9 + sum(0.22 * h + 0.45 for h in heights)))
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[h + 2 for h in heights])
    for axis, (name, cases) in zip(axes[:, 0], panels.items(), strict=True):
        _draw_bars(axis, _rows(cases, describe), colors, logarithmic)
        axis.set_title(name, loc="left", fontsize=10)
    figure.suptitle(f"{title}\n(below 1 is faster; whiskers: quartiles)", x=0.02, ha="left")
    figure.tight_layout()
    return figure


def _rows(cases: list[CaseResult], describe: tables.Describe) -> list[tuple[str, str, CaseResult]]:
    """Group, contender and case of every bar, from top to bottom."""
    return [
        (describe(case.facts), name, case)
        for case in cases
        for name in case.contenders
        if name != case.baseline and case.ratio(name)
    ]


def _draw_bars(
    axis: Axes,
    rows: list[tuple[str, str, CaseResult]],
    colors: dict[str, dict],
    logarithmic: bool,
) -> None:
    position, group, ticks = 0.0, None, []
    farthest = max(case.ratio(name).high for _, name, case in rows)
    on_log = logarithmic and farthest > 5
    for label, name, case in rows:
        if group not in (None, label):
            position += 0.7
        if group != label:
            axis.annotate(
                label,
                (0, position - 0.5),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                fontweight="bold",
                va="center",
            )
            position += 0.4
        group = label
        low, median, high = case.ratio(name)
        # On a logarithmic axis, which has no zero, a bar goes from equality to the ratio.
        start = 1.0 if on_log else 0.0
        axis.barh(position, median - start, left=start, height=0.8, **colors[name])
        axis.plot([low, high], [position, position], color="black", linewidth=1)
        axis.annotate(
            tables.times_text(median),
            (max(median, high, start), position),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
        ticks.append((position, name))
        position += 1
    axis.axvline(1, color=COLORS["PyTorch"], linewidth=1, linestyle="--")
    axis.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks], fontsize=8)
    axis.set_ylim(position - 0.3, -1.2)
    if on_log:
        axis.set_xscale("log")
        _plain_ticks(axis.xaxis, tables.times_text)
        lowest = min(case.ratio(name).low for _, name, case in rows)
        axis.set_xlim(min(0.5, lowest / 1.3), farthest * 2)
    else:
        axis.set_xlim(0, max(1.1, farthest) * 1.15)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def lines(title: str, panels: dict[str, list[tuple[float, CaseResult]]]) -> Figure | None:
    """Medians of cases by their positions, a line a contender, on double logarithmic scales.

    Panels, by title, stand beside each other. None if nothing was measured.
    """
    panels = {name: sorted(points, key=_first) for name, points in panels.items() if points}
    if not panels:
        return None
    colors = styles([case for points in panels.values() for _, case in points])
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, points) in zip(axes, panels.items(), strict=True):
        for contender in tables.contender_names(case for _, case in points):
            _draw_line(axis, contender, points, colors[contender])
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(name, fontsize=10)
        ticks = sorted({position for position, _ in points})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        axis.xaxis.minorticks_off()
        unit = points[0][1].unit
        _plain_ticks(axis.yaxis, lambda value, unit=unit: tables.quantity(value, unit))
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    figure.suptitle(title, x=0.02, ha="left")
    figure.tight_layout()
    return figure


def _plain_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """Ticks of a logarithmic axis without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, position: text(value))
    axis.set_minor_locator(NullLocator())


def _first(point: tuple[float, CaseResult]) -> float:
    return point[0]


def _draw_line(
    axis: Axes, contender: str, points: list[tuple[float, CaseResult]], style: dict
) -> None:
    """The medians with a band of the quartiles, and the value at the end."""
    found = [(x, case, case.spread(contender)) for x, case in points if case.spread(contender)]
    if not found:
        return
    positions = [x for x, _, _ in found]
    low, middle, high = zip(*(values for _, _, values in found), strict=True)
    axis.plot(positions, middle, marker="o", markersize=3, label=contender, **style)
    axis.fill_between(positions, low, high, color=style["color"], alpha=0.15)
    axis.annotate(
        tables.quantity(middle[-1], found[-1][1].unit),
        (positions[-1], middle[-1]),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=style["color"],
    )
