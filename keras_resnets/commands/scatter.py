"""A scatter plot as SVG: text that a page shows as it is, with a colour a group.

Matplotlib draws more and is no dependency of the command line; this needs nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 14, 46
_LINE = 18  # Height of a line of the legend.
_STEPS = (1, 2, 5)  # Ticks of a logarithmic axis within a power of ten.

STYLE = """
text { font: 12px system-ui, sans-serif; fill: currentColor }
.grid { stroke: currentColor; stroke-opacity: .15 }
.point { fill-opacity: .7; stroke: currentColor; stroke-opacity: .35; stroke-width: .5 }
"""
"""What a page or a file that shows plots needs once."""

COLORS = (
    *("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"),
    *("#66ccee", "#ee8866", "#009988", "#999999", "#9955cc"),
)
"""A colour a group: told apart by most eyes, and on light and dark paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """A point of the plot.

    Attributes:
        x: above 0; the axis is logarithmic.
        y: of the linear axis.
        group: index of its group, thus its colour.
        name: what a page finds it by.
        title: what is shown where the pointer rests on it.
    """

    x: float
    y: float
    group: int
    name: str
    title: str


def scatter(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    groups: Sequence[str] = (),
) -> str:
    """The plot as an `<svg>` element.

    Args:
        points: at least one.
        x_label: of the logarithmic axis.
        y_label: of the linear axis.
        groups: names of the groups, for a legend; without them there is none.

    Returns:
        The element. It takes the width that there is, and its text the colour of the page's.
    """
    x_ticks, y_ticks = log_ticks([p.x for p in points]), linear_ticks([p.y for p in points])
    low, high = math.log(x_ticks[0]), math.log(x_ticks[-1])

    def across(x: float) -> float:
        return LEFT + (math.log(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y_label)} by {escape(x_label)}">'
    ]
    for x in x_ticks:
        parts.append(_grid(across(x), TOP, across(x), HEIGHT - BOTTOM))
        parts.append(_text(across(x), HEIGHT - BOTTOM + 18, f"{x:g}", "middle"))
    for y in y_ticks:
        parts.append(_grid(LEFT, down(y), WIDTH - RIGHT, down(y)))
        parts.append(_text(LEFT - 8, down(y) + 4, f"{y:g}", "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle"))
    parts.append(
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    for point in points:
        parts.append(
            f'<circle class="point" data-name="{escape(point.name)}" r="5" '
            f'cx="{across(point.x):.1f}" cy="{down(point.y):.1f}" fill="{COLORS[point.group]}">'
            f"<title>{escape(point.title)}</title></circle>"
        )
    shown = [(index, name) for index, name in enumerate(groups) if name]
    for line, (index, name) in enumerate(reversed(shown)):
        y = HEIGHT - BOTTOM - 12 - line * _LINE
        parts.append(
            f'<circle class="point" r="5" cx="{WIDTH - RIGHT - 110}" cy="{y}" '
            f'fill="{COLORS[index]}"/>'
        )
        parts.append(_text(WIDTH - RIGHT - 100, y + 4, name, "start"))
    return "\n".join([*parts, "</svg>"])


def log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2, 5, 10, 20, ... around all values."""
    powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [step * 10.0**power for power in powers for step in _STEPS]
    first = max(i for i, tick in enumerate(ticks) if tick <= min(values))
    last = min(i for i, tick in enumerate(ticks) if tick >= max(values))
    return ticks[first : max(last, first + 1) + 1]


def linear_ticks(values: Sequence[float]) -> list[float]:
    """Multiples of 1, 2, 5, 10, ... around all values, at most ten or so."""
    span = max(values) - min(values) or 1.0
    step = next(
        tick
        for power in range(math.floor(math.log10(span)) - 1, math.ceil(math.log10(span)) + 1)
        for tick in (step * 10.0**power for step in _STEPS)
        if span / tick <= 8
    )
    first, last = math.floor(min(values) / step), math.ceil(max(values) / step)
    return [step * index for index in range(first, max(last, first + 1) + 1)]


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
