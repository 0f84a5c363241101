"""A graph that flows downwards, laid out in rows: boxes, and points that long arrows pass through.

Sugiyama's method in small: a row for each vertex (the longest path to it), stand-ins where an arrow
passes a row by, an order within each row by the mean of the neighbours, and places as near to the
neighbours as the boxes' widths allow.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence

_ROUNDS = 24
GAP = 18  # Between boxes side by side.
_THREAD = 8  # Width of an arrow that passes a row by.

Vertex = Hashable
Edge = tuple[Vertex, Vertex]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things are.

    Attributes:
        rows: the vertices from above to below.
        x: the middle of each vertex.
        routes: the vertices that each arrow passes, its ends included; those in between are
            stand-ins, and in `x` as well.
    """

    rows: list[list[Vertex]]
    x: Mapping[Vertex, float]
    routes: list[list[Vertex]]


def layout(widths: Mapping[Vertex, float], edges: Sequence[Edge]) -> Layout:
    """Lays a graph without cycles out.

    Args:
        widths: of each vertex, in an order in which sources come before targets.
        edges: source and target each.
    """
    row_of: dict[Vertex, int] = {}
    for vertex in widths:
        row_of[vertex] = max((row_of[a] + 1 for a, b in edges if b == vertex), default=0)
    rows: list[list[Vertex]] = [[] for _ in range(max(row_of.values()) + 1)]
    for vertex, row in row_of.items():
        rows[row].append(vertex)
    widths = dict(widths)
    routes, neighbours = [], {vertex: [] for vertex in widths}
    for number, (source, target) in enumerate(edges):
        route = [source]
        for row in range(row_of[source] + 1, row_of[target]):
            stand_in = ("passes", number, row)
            widths[stand_in], neighbours[stand_in] = _THREAD, []
            rows[row].append(stand_in)
            route.append(stand_in)
        route.append(target)
        routes.append(route)
        for a, b in itertools.pairwise(route):
            neighbours[a].append(b)
            neighbours[b].append(a)
    place = {vertex: float(i) for row in rows for i, vertex in enumerate(row)}
    for sweep in range(_ROUNDS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            row.sort(key=lambda vertex: _mean(place, neighbours[vertex], place[vertex]))
            place.update((vertex, float(i)) for i, vertex in enumerate(row))
    x = dict.fromkeys(widths, 0.0)
    for sweep in range(4 * _ROUNDS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean(x, _pulling(vertex, neighbours[vertex]), x[vertex]) for vertex in row]
            x.update(zip(row, apart(wanted, [widths[vertex] for vertex in row]), strict=True))
    left = min(x[vertex] - widths[vertex] / 2 for vertex in widths)
    return Layout(rows, {vertex: value - left for vertex, value in x.items()}, routes)


def _pulling(vertex: Vertex, neighbours: Sequence[Vertex]) -> list[Vertex]:
    """What a vertex wants to be near to: an arrow that passes, to its own other parts only."""
    own = [other for other in neighbours if _passes(other)] if _passes(vertex) else []
    return own or list(neighbours)


def _passes(vertex: Vertex) -> bool:
    return isinstance(vertex, tuple)


def _mean(values: Mapping[Vertex, float], keys: Iterable[Vertex], default: float) -> float:
    found = [values[key] for key in keys]
    return sum(found) / len(found) if found else default


def apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Middles as near to those that are wanted as boxes side by side can have them.

    The least sum of squares, by pooling neighbours that get into each other's way.
    """
    offsets = [0.0]
    for a, b in itertools.pairwise(widths):
        offsets.append(offsets[-1] + (a + b) / 2 + GAP)
    pools: list[list[float]] = []  # Sum and count of what stands together.
    for value, offset in zip(wanted, offsets, strict=True):
        pools.append([value - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += count
    shifts = [total / count for total, count in pools for _ in range(int(count))]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]
