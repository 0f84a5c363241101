"""Counting multiply-accumulates."""

from __future__ import annotations

import math

import keras

from keras_resnets.checks import as_plain, is_count, require
from keras_resnets.graph.walk import graph_of, require_functional

# Without ECA's convolution over channels, a thousandth of a percent, which timm's counts leave out.
_COUNTED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def count_macs(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> int:
    """Multiply-accumulates of a model's 2D convolutions and dense layers for one image.

    One multiply-accumulate is one multiplication and one addition: what He et al. count as a FLOP.
    Norms, activations, pooling, additions and biases are left out, as in the papers' tables. Layers
    of nested models count as often as they are called.

    Args:
        model: a functional or built sequential `keras.Model` with one input.
        input_shape: `(height, width, channels)` of the image; default: the model's own, with 224
            for an unknown height or width.

    Returns:
        The number of multiply-accumulates.

    Raises:
        ValueError: if the model is another or `input_shape` does not fit it.

    Example:

    >>> keras_resnets.count_macs(keras_resnets.ResNet50(weights=None))
    4089184256

    Source:
        He et al., arXiv:1512.03385, table 1 (their 3.8 billion are of the form with the stride on
        the first 1x1 convolution).
    """
    model = require_functional(model, one_input=True)
    input_shape = as_plain(input_shape)
    own = tuple(model.input_shape[1:])
    if input_shape is None:
        input_shape = tuple(size or 224 for size in own)
    require(
        isinstance(input_shape, (tuple, list))
        and len(input_shape) == len(own)
        and all(map(is_count, input_shape))
        and all(size in (None, given) for size, given in zip(own, input_shape, strict=True)),
        f"input_shape must be positive ints that agree with the model's {own}",
        input_shape=input_shape,
    )
    graph = graph_of(model, (1, *input_shape))
    hiding = (keras.Model, keras.layers.Wrapper)
    closed = [call.operation.name for call in graph.calls if isinstance(call.operation, hiding)]
    require(
        not closed,
        "models nested in the model must be functional or sequential and not wrapped, for their "
        "layers to be seen",
        model=model.name,
        nested=closed,
    )
    # Every output position costs one pass over the kernel, whose shape has the groups in it.
    return sum(
        math.prod(call.outputs[0].shape[1:-1]) * math.prod(call.operation.kernel.shape)
        for call in graph.calls
        if isinstance(call.operation, _COUNTED)
    )
