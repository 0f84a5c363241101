"""Feature maps of a backbone by level, with their strides: one contract for all families."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import KerasTensor

from keras_resnets.checks import require
from keras_resnets.graph.backbone import find_backbone, level_layers, path_to
from keras_resnets.graph.walk import Graph, graph_of, new_inputs, require_functional
from keras_resnets.names import keras_name


@dataclasses.dataclass(frozen=True)
class FeatureLevel:
    """One level of the pyramid.

    Attributes:
        stride: image pixels a pixel of the feature map, along each side.
        channels: number of channels.
        output: the symbolic tensor `(batch, height / stride, width / stride, channels)`, sizes
            rounded up.
    """

    stride: int
    channels: int
    output: KerasTensor


def feature_levels(model: keras.Model, prefix: str = "") -> dict[str, FeatureLevel]:
    """The levels P1, P2, ... of a model built by this package, also of a loaded one.

    P1 is the stem's output before its max-pool; each further level is the end of a stage: P2 to P5
    have the strides 4, 8, 16, 32. In ReXNet, whose stages have other borders, a level is the last
    block of a resolution. `output_stride` lowers the strides and `small_inputs` divides them by 4;
    CIFAR forms have three stages and end at P4.

    A backbone may also be nested in the model, as in `keras.Sequential([backbone, Dense(5)])`. If
    there is one, its levels are returned; their tensors are those of its own graph.

    Args:
        model: the model, with or without its top.
        prefix: the one that the backbone was built with.

    Returns:
        `{"P1": FeatureLevel(stride=2, ...), ...}`, in this order.

    Raises:
        ValueError: if the model has no such levels under this prefix, or several nested backbones
            do; the message names them.

    Example:

    >>> levels = keras_resnets.feature_levels(keras_resnets.ResNet50(weights=None))
    >>> {name: (level.stride, level.channels) for name, level in levels.items()}
    {'P1': (2, 64), 'P2': (4, 256), 'P3': (8, 512), 'P4': (16, 1024), 'P5': (32, 2048)}
    """
    backbone = find_backbone(require_functional(model), prefix)
    graph = graph_of(backbone)
    marks = level_layers(backbone)[keras_name(prefix)]
    return {
        level: FeatureLevel(_stride(graph, layer), layer.output.shape[-1], layer.output)
        for level, layer in sorted(marks.items())
    }


def feature_pyramid(
    model: keras.Model, levels: Sequence[str] | None = None, prefix: str = ""
) -> keras.Model:
    """A model that returns the feature maps of several levels; it shares the weights of `model`.

    Args:
        model: a model built by this package, with or without its top.
        levels: names such as `("P3", "P4", "P5")`; default: all. See `feature_levels`.
        prefix: the one that the backbone was built with.

    Returns:
        A `keras.Model` from images, as `model` takes them, to a dict
        `{"P1": (batch, height / 2, width / 2, channels), ...}`.

    Raises:
        ValueError: if the model has no such levels, or several nested backbones have.

    Example:

    >>> backbone = keras_resnets.ResNeSt50(weights=None, include_top=False)
    >>> pyramid = keras_resnets.feature_pyramid(backbone, ("P3", "P4", "P5"))
    >>> {name: x.shape for name, x in pyramid(keras.ops.ones((1, 224, 224, 3))).items()}
    {'P3': (1, 28, 28, 512), 'P4': (1, 14, 14, 1024), 'P5': (1, 7, 7, 2048)}
    """
    available = feature_levels(model, prefix)
    if levels is None:
        levels = list(available)
    require(
        isinstance(levels, Sequence)
        and not isinstance(levels, str)
        and len(levels) > 0
        and all(isinstance(level, str) and level in available for level in levels),
        f"levels must be some of {', '.join(available)}",
        levels=levels,
    )
    outputs = {level: available[level].output for level in levels}
    name = f"{model.name}_pyramid"
    functional = require_functional(model)
    backbone = find_backbone(functional, prefix)
    if backbone is functional:
        return keras.Model(functional.input, outputs, name=name)
    images, features = _in_front_of(functional, backbone)
    return keras.Model(images, keras.Model(backbone.input, outputs)(features), name=name)


def _in_front_of(model: keras.Model, backbone: keras.Model) -> tuple[Any, Any]:
    """New inputs of a model, and what a backbone that is nested in it reads of them."""
    graph = graph_of(model, opens=lambda nested: nested is not backbone)
    calls = graph.calls_of(backbone)
    require(
        len(calls) == 1,
        "model must call its nested backbone once, outside of subclassed models; pass the backbone "
        f"itself, {path_to(model, backbone)}",
        model=model.name,
        calls=len(calls),
    )
    images = new_inputs(model)
    given = zip(map(id, graph.inputs), keras.tree.flatten(images), strict=True)
    read = graph.run(dict(given), calls[0].inputs, training=None)
    return images, keras.tree.pack_sequence_as(backbone.input, read)


def _stride(graph: Graph, mark: keras.layers.Layer) -> int:
    """Product of the strides from a level back to the image; all ways there have the same."""
    (call,) = graph.calls_of(mark)
    steps = (getattr(step.operation, "strides", 1) for step in graph.trunk(call.outputs[0]))
    return math.prod(step[0] if isinstance(step, (tuple, list)) else step for step in steps)
