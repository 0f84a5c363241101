"""Both ends of a model, as its own layers tell: whether it normalises, what its outputs are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import filterfalse
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnets.graph.walk import graph_of, shows_graph
from keras_resnets.layers import Preprocessor
from keras_resnets.preparation import stated_by_rescaling


def normalizing_layer(model: keras.Model) -> layers.Layer | None:
    """The layer that takes RGB values 0 to 255 and normalises them, if the model has one.

    The layer stands in front of all that have weights. A scale above 1 is for values that have been
    brought to 0 to 1 before.
    """
    for operation in _from_the_image(model):
        if isinstance(operation, Preprocessor):
            return operation
        scale = _scale(operation)
        if scale is not None:
            return operation if np.abs(scale).max() <= 1 else None
        if getattr(operation, "weights", None):
            return None
    return None


def stated_in(model: keras.Model) -> dict[str, Any]:
    """What a model's own layers state of its images, as metadata; nothing if they state nothing."""
    own = normalizing_layer(model) if shows_graph(model) and len(model.inputs) == 1 else None
    if isinstance(own, Preprocessor):
        return own.preparation.as_metadata()
    if isinstance(own, layers.Rescaling) and np.shape(own.scale) == np.shape(own.offset) == (3,):
        return stated_by_rescaling(own.scale, own.offset)
    return {}


def _scale(operation: keras.Operation) -> np.ndarray | None:
    """What a layer multiplies images by; None if it is no layer that normalises."""
    if isinstance(operation, layers.Rescaling):
        return np.asarray(operation.scale)
    if isinstance(operation, layers.Normalization):
        deviation = np.sqrt(keras.ops.convert_to_numpy(operation.variance))
        # As the layer does it: Keras divides by a small number where nothing varies.
        scale = 1 / np.maximum(deviation, keras.backend.epsilon())
        return 1 / scale if operation.invert else scale
    return None


def _from_the_image(model: keras.Model) -> Iterator[keras.Operation]:
    """The operations from the image to the output, those of nested models among them."""
    return (call.operation for call in reversed(list(graph_of(model).trunk())))


def last_operation(model: keras.Model) -> keras.Operation | None:
    """What decides the activation of a model's first output, also in a nested model."""
    ending = (call.operation for call in graph_of(model).trunk())
    return next(filterfalse(passes_on, ending), None)


def output_activation(model: keras.Model) -> str:
    """Name of the activation that a model ends in; `"linear"` for none."""
    return activation_name(last_operation(model))


def passes_on(operation: keras.Operation) -> bool:
    """Whether an operation leaves values what they are, so that others decide their activation."""
    if isinstance(operation, layers.Activation):
        return operation.activation is keras.activations.linear  # Casts under mixed precision.
    return isinstance(operation, (layers.Dropout, layers.Flatten, layers.Identity, layers.Reshape))


def activation_name(operation: Any) -> str:
    """The name of an operation's activation; "linear" for one that has none and is none."""
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return activation.__name__
    # `layers.ReLU`, `layers.Softmax`, `ops.log_softmax(x)`: classes called as the activation is.
    kind = type(operation).__name__.lower()
    names = (name for name in dir(keras.activations) if name.replace("_", "") == kind)
    return next(names, "linear")
