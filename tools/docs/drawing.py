"""A block of a network as SVG, drawn from the model: its layers, their names, what reads what.

What follows an operation and no other (norm, activation, reshaping) stands in its box.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from html import escape

import keras
from keras import layers

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.graph.walk import Call, graph_of
from keras_resnets.names import keras_name
from tools.docs.layout import Vertex, layout

_LINE, _PAD, _ROW_GAP = 15, 7, 26
_CHARACTER = 6.4  # Width of one, in the font of the style sheet.
_SIGN = 26  # Width and height of a plus or a times.

# What is too small for a box of its own, and what it is called in the box before.
_JOINS = {
    layers.BatchNormalization: "norm",
    layers.GroupNormalization: "group norm",
    layers.Activation: "",
    layers.Softmax: "softmax",
    layers.Reshape: "reshape",
    layers.Permute: "permute",
    layers.Flatten: "flatten",
}
_SIGNS = {layers.Add: "+", layers.Multiply: "\N{MULTIPLICATION SIGN}"}


@dataclasses.dataclass
class Box:
    """A box of the drawing: an operation and what joined it.

    Attributes:
        title: what the operation does.
        calls: the calls in it, in order.
        notes: what those that joined do.
    """

    title: str
    calls: list[Call]
    notes: list[str] = dataclasses.field(default_factory=list)

    def lines(self, prefix: str) -> list[tuple[str, str]]:
        """Lines of text with their class."""
        name = self.calls[0].operation.name.removeprefix(prefix)
        found = [("what", self.title)]
        if self.notes:
            found.append(("note", ", ".join(self.notes)))
        return [*found, ("name", name)]

    def tooltip(self) -> str:
        return ", ".join(
            f"{call.operation.name} {_shape(call.outputs[0].shape)}" for call in self.calls
        )


def _shape(shape: Sequence[int | None]) -> str:
    return "x".join(map(str, shape[1:]))


@functools.cache
def block_calls(name: str, block: str) -> tuple[str, list[Call], object]:
    """The calls of a block, and the graph that they are of.

    Args:
        name: of the variant; it is cut down to two blocks in each of two stages where it can be.
        block: the block's path in the checkpoints, such as `"layer2.0"`.
    """
    config = catalog.find_variant(name).config
    short = (
        {"depths": (2, 2)} if hasattr(config, "depths") and not hasattr(config, "widths") else {}
    )
    size = config.image_size
    model = kr.create_model(name, weights=None, input_shape=(size, size, 3), **short)
    graph = graph_of(model)
    prefix = keras_name(f"{block}.")
    calls = [call for call in graph.calls if call.operation.name.startswith(prefix)]
    if not calls:
        raise ValueError(f"block must be one of {name}, such as 'layer1.0'. Received: {block!r}")
    return prefix, calls, graph


def draw(name: str, block: str) -> str:
    """The block as an `<svg>` element."""
    prefix, calls, graph = block_calls(name, block)
    inside = {id(call) for call in calls}
    boxes: dict[int, Box] = {}  # By the call: several share one.
    for call in calls:
        sources = [graph.producers.get(id(tensor)) for tensor in call.inputs]
        before = sources[0] if len(sources) == 1 else None
        alone = before is not None and len(graph.readers[id(before.outputs[0])]) == 1
        operation = call.operation
        note = next((text for kind, text in _JOINS.items() if isinstance(operation, kind)), None)
        follows_padding = alone and isinstance(before.operation, layers.ZeroPadding2D)
        if alone and id(before) in boxes and (note is not None or follows_padding):
            box = boxes[id(before)]
            box.calls.append(call)
            if follows_padding:
                box.title = describe(call)
                box.calls.sort(key=lambda c: isinstance(c.operation, layers.ZeroPadding2D))
            else:
                text = note or keras.activations.serialize(operation.activation)
                box.notes.append(text if isinstance(text, str) else operation.name)
        else:
            box = Box(describe(call), [call])
        boxes[id(call)] = box

    unique = list({id(box): box for box in boxes.values()}.values())
    widths: dict[Vertex, float] = {"in": 90.0}
    edges: list[tuple[Vertex, Vertex]] = []
    for box in unique:
        widths[id(box)] = _width(box, prefix)
        for call in box.calls:
            for tensor in call.inputs:
                source = graph.producers.get(id(tensor))
                outside = source is None or id(source) not in inside
                vertex = "in" if outside else id(boxes[id(source)])
                if vertex != id(box):
                    edges.append((vertex, id(box)))
    edges = list(dict.fromkeys(edges))
    first = next(t for c in calls for t in c.inputs
                 if id(graph.producers.get(id(t))) not in inside)  # fmt: skip
    return _svg(name, block, prefix, unique, widths, edges, _shape(first.shape))


def describe(call: Call) -> str:
    """What an operation does, in a few words."""
    operation = call.operation
    channels = call.outputs[0].shape[-1]
    if type(operation) in _SIGNS:
        return _SIGNS[type(operation)]
    if isinstance(operation, layers.Conv1D) and not isinstance(operation, layers.Conv2D):
        return f"convolution over {operation.kernel_size[0]} channels"
    if isinstance(operation, (layers.Conv2D, layers.DepthwiseConv2D)):
        depthwise = isinstance(operation, layers.DepthwiseConv2D) or (
            operation.groups > 1 and operation.groups == channels
        )
        return ", ".join(
            filter(
                None,
                (
                    f"{_window(operation.kernel_size)} {'depthwise' if depthwise else 'conv'} "
                    f"{channels}",
                    f"{operation.groups} groups" if operation.groups > 1 and not depthwise else "",
                    f"stride {operation.strides[0]}" if operation.strides[0] > 1 else "",
                    f"dilation {operation.dilation_rate[0]}"
                    if operation.dilation_rate[0] > 1
                    else "",
                ),
            )
        )
    if isinstance(operation, (layers.AveragePooling2D, layers.MaxPooling2D)):
        kind = "average" if isinstance(operation, layers.AveragePooling2D) else "maximum"
        stride = operation.strides[0]
        return f"{_window(operation.pool_size)} {kind}" + (f", stride {stride}" * (stride > 1))
    if isinstance(operation, layers.GlobalAveragePooling2D):
        return "mean of the image"
    if isinstance(operation, layers.Concatenate):
        return f"concatenate to {channels}"
    if isinstance(operation, kr.layers.SplitChannels):
        return f"split into {len(call.outputs)}"
    if isinstance(operation, kr.layers.PadChannels):
        return f"zeros up to {channels} channels"
    if isinstance(operation, layers.Activation):
        return keras.activations.serialize(operation.activation)
    if isinstance(operation, layers.ZeroPadding2D):
        return "zeros around"
    if isinstance(operation, (layers.BatchNormalization, layers.GroupNormalization)):
        return "norm"
    return type(operation).__name__


def _window(size: int | Sequence[int]) -> str:
    return "x".join(map(str, size)) if isinstance(size, Sequence) else f"{size}x{size}"


def _is_sign(box: Box) -> bool:
    return box.title in _SIGNS.values() and not box.notes


def _width(box: Box, prefix: str) -> float:
    if _is_sign(box):
        return _SIGN
    return max(len(text) for _, text in box.lines(prefix)) * _CHARACTER + 2 * _PAD


def _height(box: Box, prefix: str) -> float:
    return _SIGN if _is_sign(box) else len(box.lines(prefix)) * _LINE + 2 * _PAD - 3


def _svg(
    name: str,
    block: str,
    prefix: str,
    boxes: Sequence[Box],
    widths: dict[Vertex, float],
    edges: Sequence[tuple[Vertex, Vertex]],
    given: str,
) -> str:
    found = layout(widths, edges)
    by_id: dict[Vertex, Box] = {id(box): box for box in boxes}
    heights = {vertex: _height(box, prefix) for vertex, box in by_id.items()} | {"in": 22.0}
    tops, y = [], 4.0
    for row in found.rows:
        height = max(heights.get(vertex, 0.0) for vertex in row)
        tops.append((y, height))
        y += height + _ROW_GAP
    row_of = {vertex: row for row, vertices in enumerate(found.rows) for vertex in vertices}

    def edge_y(vertex: Vertex, below: bool) -> float:
        top, height = tops[row_of[vertex]]
        own = heights.get(vertex, height)
        return top + (height + own) / 2 if below else top + (height - own) / 2

    width = max(found.x[vertex] + widths[vertex] / 2 for vertex in widths) + 4
    width = max(width, *(found.x[v] + 8 for route in found.routes for v in route))
    marker = f"arrow-{name}-{block}".replace(".", "-")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="block" viewBox="-4 0 {width + 8:.0f} '
        f'{y - _ROW_GAP + 6:.0f}" style="max-width: {width + 8:.0f}px" role="img" '
        f'aria-label="The block {block} of {name}">',
        f'<defs><marker id="{marker}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for route in found.routes:
        points = [(found.x[route[0]], edge_y(route[0], below=True))]
        for vertex in route[1:]:
            last = vertex == route[-1]
            points.append((found.x[vertex], edge_y(vertex, below=False) - (2 if last else 0)))
            if not last:
                points.append((found.x[vertex], edge_y(vertex, below=True)))
        parts.append(f'<path class="edge" d="{_curve(points)}" marker-end="url(#{marker})"/>')
    top, height = tops[row_of["in"]]
    parts.append(
        f'<text x="{found.x["in"]:.1f}" y="{top + height - 6:.1f}" class="what" '
        f'text-anchor="middle">x: {escape(given)}</text>'
    )
    for vertex, box in by_id.items():
        parts += _drawn(box, prefix, found.x[vertex], edge_y(vertex, below=False), widths[vertex])
    return "\n".join([*parts, "</svg>"])


def _drawn(box: Box, prefix: str, x: float, top: float, width: float) -> list[str]:
    tooltip = f"<title>{escape(box.tooltip())}</title>"
    if _is_sign(box):
        middle = top + _SIGN / 2
        return [
            f'<g><circle cx="{x:.1f}" cy="{middle:.1f}" r="{_SIGN / 2 - 1}"/>'
            f'<text x="{x:.1f}" y="{middle + 5:.1f}" class="sign" text-anchor="middle">'
            f"{box.title}</text>{tooltip}</g>"
        ]
    height = _height(box, prefix)
    parts = [
        f'<g><rect x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="4"/>'
    ]
    for number, (kind, text) in enumerate(box.lines(prefix)):
        parts.append(
            f'<text x="{x:.1f}" y="{top + _PAD + (number + 0.75) * _LINE:.1f}" class="{kind}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )
    return [*parts, f"{tooltip}</g>"]


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A path through points that leaves and enters each upright."""
    (x, y), *rest = points
    parts = [f"M{x:.1f} {y:.1f}"]
    for u, v in rest:
        if abs(u - x) < 0.5:
            parts.append(f"L{u:.1f} {v:.1f}")
        else:
            middle = (y + v) / 2
            parts.append(f"C{x:.1f} {middle:.1f} {u:.1f} {middle:.1f} {u:.1f} {v:.1f}")
        x, y = u, v
    return "".join(parts)
