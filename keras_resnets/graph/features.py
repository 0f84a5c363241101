"""Feature maps of a backbone by level, with their strides: one contract for all families."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

import keras
from keras import KerasTensor

from keras_resnets.checks import require
from keras_resnets.graph.walk import upstream


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

    Args:
        model: the model, with or without its top.
        prefix: the one that the backbone was built with.

    Returns:
        `{"P1": FeatureLevel(stride=2, ...), ...}`, in this order.

    Raises:
        ValueError: if the model has no such levels under this prefix.

    Example:

    >>> levels = keras_resnets.feature_levels(keras_resnets.ResNet50(weights=None))
    >>> {name: (level.stride, level.channels) for name, level in levels.items()}
    {'P1': (2, 64), 'P2': (4, 256), 'P3': (8, 512), 'P4': (16, 1024), 'P5': (32, 2048)}
    """
    require(
        isinstance(model, keras.Model) and hasattr(model, "operations"),
        "model must be a functional keras.Model",
        model=model,
    )
    require(isinstance(prefix, str), "prefix must be a string", prefix=prefix)
    found = {}
    for layer in model.layers:
        match = re.fullmatch(r"(.*)(P\d)", layer.name)
        if match and isinstance(layer, keras.layers.Identity):
            found.setdefault(match[1], {})[match[2]] = layer.output
    prefix = prefix.replace(".", "_")
    require(
        prefix in found,
        "prefix must be that of a backbone in the model "
        f"(found: {', '.join(map(repr, sorted(found))) or 'none built by keras_resnets'})",
        prefix=prefix,
        model=model.name,
    )
    return {
        name: FeatureLevel(_stride(model, output), output.shape[-1], output)
        for name, output in sorted(found[prefix].items())
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
        A `keras.Model` from images to a dict `{"P1": (batch, height / 2, width / 2, channels),
        ...}`.

    Raises:
        ValueError: if the model has no such levels.

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
    return keras.Model(model.input, outputs, name=f"{model.name}_pyramid")


def _stride(model: keras.Model, tensor: KerasTensor) -> int:
    """Product of the strides on the way back to the image; all ways there have the same."""
    steps = (getattr(operation, "strides", 1) for operation in upstream(model, tensor))
    return math.prod(step[0] if isinstance(step, (tuple, list)) else step for step in steps)
