"""Both ends of a model, as its own layers tell: whether it normalises, what its outputs are."""

from __future__ import annotations

import keras
from keras import layers

from keras_resnets.graph.walk import flat_layers, upstream
from keras_resnets.layers import Preprocessor

NORMALISING = (layers.Rescaling, layers.Normalization, Preprocessor)


def normalises(model: keras.Model) -> bool:
    """Whether a model normalises RGB values by itself."""
    return any(isinstance(layer, NORMALISING) for layer in flat_layers(model))


def output_activation(model: keras.Model) -> str:
    """Name of the activation that a functional or sequential model ends in; `"linear"` for none."""
    if isinstance(model, keras.Sequential):  # It shows no graph to walk.
        model = keras.Model(model.inputs[0], model.outputs[0])
    last = next(upstream(model, model.outputs[0]), None)
    if isinstance(last, keras.Model):
        return output_activation(last)
    if isinstance(last, layers.Softmax):
        return "softmax"
    return getattr(getattr(last, "activation", None), "__name__", "linear")
