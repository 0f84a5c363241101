"""Copies of a model for inference: changed layer by layer, or without what only trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnets.graph.walk import (
    first_argument,
    flat_layers,
    new_inputs,
    plain,
    require_functional,
    shows_graph,
)
from keras_resnets.layers import DropBlock2D, DropPath

# Layers that return their input at inference, as far as the installed Keras has them. AutoContrast
# is none; nor is RandomCrop, which declares another size of its output.
_ONLY_TRAINING = (
    *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("AugMix", "CutMix", "Equalization", "MixUp", "RandAugment", "Solarization"),
    *("RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast"),
    *("RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization"),
    *("RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear"),
    *("RandomTranslation", "RandomZoom"),
)
_CLASSES = {
    DropBlock2D,
    DropPath,
    *(getattr(layers, name) for name in _ONLY_TRAINING if hasattr(layers, name)),
}


def without_training_layers(model: keras.Model) -> keras.Model:
    """The model without layers that do nothing at inference: augmentation, dropout, noise.

    Exporters have no operators for some of them, and between a convolution and its batch norm they
    keep the two from being folded. Pipelines and nested models that consist of nothing else go,
    too.

    Args:
        model: a functional or built sequential `keras.Model`.

    Returns:
        The model itself if it has no such layer (of a sequential one a functional model of the same
        layers); else a functional copy that shares nothing with it. Other layers keep their names
        and weights, and `predict` returns the same.

    Raises:
        ValueError: if the model is neither functional nor sequential.

    Example:

    >>> model = keras_resnets.ResNet18(weights=None, dropout=0.2, drop_path=0.1)
    >>> len(model.layers) - len(without_training_layers(model).layers)
    8
    """
    graph = require_functional(model)
    if not any(map(only_trains, flat_layers(graph))):
        return graph
    return copied(graph, left_out=only_trains)


def only_trains(layer: layers.Layer) -> bool:
    """Whether a layer returns its input at inference.

    A subclass may do more than its base, such as drop at inference, too.
    """
    if isinstance(layer, keras.Model):
        return (
            shows_graph(layer)
            and len(layer.inputs) == len(layer.outputs) == 1
            and all(
                isinstance(step, layers.InputLayer) or only_trains(step)
                for step in plain(layer).operations
            )
        )
    if type(layer) is layers.Pipeline:
        return all(map(only_trains, layer.layers))
    return type(layer) in _CLASSES


def copied(
    model: keras.Model,
    *,
    kind: Callable[[layers.Layer], type[layers.Layer]] = type,
    config: Callable[[layers.Layer], dict[str, Any]] = lambda layer: layer.get_config(),
    weights: Callable[[layers.Layer], list[np.ndarray]] = lambda layer: layer.get_weights(),
    left_out: Callable[[layers.Layer], bool] = lambda layer: False,
    nested: Callable[[keras.Model], keras.Model] | None = None,
) -> keras.Model:
    """A functional copy with layers and weights of its own.

    Args:
        model: a functional or built sequential model.
        kind: the class of a layer's copy.
        config: the configuration of a layer's copy.
        weights: the weights of a layer's copy.
        left_out: whether a layer's input takes the place of its output.
        nested: makes the copy of a model that is nested in it; default: the same again.
    """
    graph = plain(model)
    nested = nested or (
        lambda inner: copied(inner, kind=kind, config=config, weights=weights, left_out=left_out)
    )

    def clone(layer: layers.Layer) -> layers.Layer:
        if left_out(layer):
            return layer  # It is not called again.
        if isinstance(layer, keras.Model) and shows_graph(layer):
            return nested(layer)
        return kind(layer).from_config(config(layer))

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if not left_out(layer):
            return layer(*args, **kwargs)
        # What goes on has the type that it would have had.
        is_model = isinstance(layer, keras.Model)
        dtype = layer.outputs[0].dtype if is_model else layer.compute_dtype
        return keras.tree.map_structure(
            lambda x: x if x.dtype == dtype else ops.cast(x, dtype), first_argument(args, kwargs)
        )

    twin = keras.models.clone_model(
        graph, input_tensors=new_inputs(graph), clone_function=clone, call_function=call
    )
    for layer in twin.layers:
        if not (isinstance(layer, keras.Model) and shows_graph(layer)):
            layer.set_weights(weights(graph.get_layer(layer.name)))
    return twin
