"""From a trained model to the graph that is exported."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnets.checks import require
from keras_resnets.deploy.inputs import ImageInputs
from keras_resnets.graph.endings import activation_name, last_operation
from keras_resnets.graph.fold import fold_batch_norms
from keras_resnets.graph.inference import copied, without_training_layers
from keras_resnets.graph.walk import flat_layers, graph_of, require_functional
from keras_resnets.layers import GroupedConv2D
from keras_resnets.layers.preprocessor import Preprocessor


@dataclasses.dataclass(frozen=True)
class ExportGraph:
    """What is exported, and what it is compared with.

    Attributes:
        network: from images `(batch, height, width, channels)` to what the model returns.
        features: from the same images to what the classifier reads; None without a classifier.
        reference: from normalised images to what `network` must return.
        reference_features: from normalised images to what `features` must return, or None.
        activation: name of that of the output.
        unfolded: why batch norms were not folded, if they were to be.
    """

    network: keras.Model
    features: keras.Model | None
    reference: keras.Model
    reference_features: keras.Model | None
    activation: str
    unfolded: str | None


def prepare(
    model: keras.Model,
    *,
    shape: tuple[int | None, ...],
    fold: bool,
    dtype: str,
    activation: str,
    inputs: ImageInputs,
    uint8: bool,
) -> ExportGraph:
    """Folds, sets types and activation, and puts the preprocessing in front.

    Args:
        model: a functional or sequential model with one input of images and one output.
        shape: of the images, with the batch.
        fold: whether to fold batch norms; a model in which that cannot be stays as it is.
        dtype: of weights and computation.
        activation: name of the output's, or `"unchanged"`.
        inputs: what the model takes.
        uint8: whether uint8 RGB goes in and is normalised; otherwise images go in as the model
            takes them.
    """
    model = require_functional(model)
    untouched = activation == "unchanged" and _computes_in(model, "float32")
    reference = model if untouched else copy(model, "float32")
    core, unfolded = without_training_layers(model), None
    if fold:
        core, unfolded = _folded(core)
    if core is model or not _computes_in(core, dtype):
        core = copy(core, dtype)
    for network in (reference, core):
        name = set_activation(network, activation)
    for layer in flat_layers(core):
        if isinstance(layer, GroupedConv2D):
            layer.implementation = "native"  # One operator, whatever trains fastest here.

    image, x = _entrance(shape, inputs, uint8)
    features, reference_features = classifier_input(core), classifier_input(reference)
    return ExportGraph(
        network=keras.Model(image, core(x), name=model.name),
        features=None if features is None else keras.Model(image, features(x), name="features"),
        reference=reference,
        reference_features=reference_features,
        activation=name,
        unfolded=unfolded,
    )


def _folded(model: keras.Model) -> tuple[keras.Model, str | None]:
    """The model without batch norms; or with some, and why they cannot be folded."""
    try:
        return fold_batch_norms(model), None
    except ValueError as error:
        return fold_batch_norms(model, strict=False), str(error)


def _entrance(
    shape: tuple[int | None, ...], inputs: ImageInputs, uint8: bool
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Images as they go into the file, and what becomes of them in front of the model."""
    image = keras.Input(batch_shape=shape, dtype="uint8" if uint8 else "float32", name="image")
    if not uint8:
        return image, image
    x = ops.cast(image, "float32")
    return image, x if inputs.takes_rgb else normalize(inputs)(x)


def copy(model: keras.Model, dtype: str) -> keras.Model:
    """A functional copy with weights of its own that computes in a type.

    Preprocessing and the classifier compute in float32 in any case, and quantized layers stay.
    """
    last = {operation.name for operation in islice(_ending(model), 2)}

    def config(layer: layers.Layer) -> dict[str, Any]:
        config = layer.get_config()
        if not getattr(layer, "quantization_mode", None):
            exact = layer.name in last or isinstance(layer, (layers.Rescaling, Preprocessor))
            config["dtype"] = "float32" if exact else dtype
        return config

    return copied(model, config=config, nested=lambda inner: copy(inner, dtype))


def _computes_in(model: keras.Model, dtype: str) -> bool:
    return all(layer.compute_dtype == dtype for layer in flat_layers(model))


def set_activation(model: keras.Model, wanted: str) -> str:
    """Sets the activation of the output, unless it is to stay; returns its name."""
    last = last_operation(model)
    name = activation_name(last)
    if wanted in ("unchanged", name):
        return name
    require(
        getattr(last, "activation", None) is not None,
        "activation can be changed where the last layer has one, such as a Dense; leave it out",
        activation=wanted,
        last_layer=getattr(last, "name", None),
    )
    last.activation = keras.activations.get(wanted)
    return wanted


def classifier_input(model: keras.Model) -> keras.Model | None:
    """From images to what the last dense layer reads: the features of an image, (N, C)."""
    for layer in islice(_ending(model), 2):
        if isinstance(layer, layers.Dense):
            return keras.Model(model.input, layer.input)
    return None


def normalize(inputs: ImageInputs) -> layers.Layer:
    """RGB values 0 to 255 to those that a model takes."""
    mean, std = map(np.array, inputs.normalization)
    return layers.Rescaling((1 / (255 * std)).tolist(), (-mean / std).tolist(), name="preprocess")


def _ending(model: keras.Model) -> Iterator[keras.Operation]:
    """The operations from the output backwards; a nested model is one."""
    return (call.operation for call in graph_of(model, opens=lambda inner: False).trunk())
