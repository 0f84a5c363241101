"""Counting multiply-accumulates."""

from __future__ import annotations

import math

import keras

from keras_resnets.checks import is_count, require
from keras_resnets.graph.walk import flat_layers


def count_macs(model: keras.Model, input_shape: tuple[int, int, int] | None = None) -> int:
    """Multiply-accumulates of a model's convolutions and dense layers for one image.

    One multiply-accumulate is one multiplication and one addition: what He et al. count as a FLOP.
    Norms, activations, pooling, additions and biases are left out, as in the papers' tables.

    Args:
        model: a functional `keras.Model` with one image input.
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
    require(
        isinstance(model, keras.Model) and model.built and len(getattr(model, "inputs", ())) == 1,
        "model must be a functional keras.Model with one image input",
        model=model,
    )
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
    counted = [
        layer
        for layer in flat_layers(model)
        if isinstance(
            layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
        )
    ]
    # Shapes at this size: the graph is replayed on shapes alone.
    outputs = keras.Function(model.inputs, [layer.output for layer in counted])
    shapes = outputs.compute_output_spec([keras.KerasTensor((1, *input_shape))])
    # Every output position costs one pass over the kernel, whose shape has the groups in it.
    return sum(
        math.prod(spec.shape[1:-1]) * math.prod(layer.kernel.shape)
        for layer, spec in zip(counted, shapes, strict=True)
    )
