"""From a trained model to the graph that is exported."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_resnets import catalog
from keras_resnets.checks import require
from keras_resnets.graph.fold import fold_batch_norms
from keras_resnets.graph.walk import flat_layers, upstream
from keras_resnets.layers import GroupedConv2D
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.preprocessing import preprocessor


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
    preprocessing: Preprocessor | None,
) -> ExportGraph:
    """Folds, sets types and activation, and puts the preprocessing in front.

    Args:
        model: a functional or sequential model with one input of images and one output.
        shape: of the images, with the batch.
        fold: whether to fold batch norms; a model in which that cannot be stays as it is.
        dtype: of weights and computation.
        activation: name of the output's, or `"unchanged"`.
        preprocessing: what normalises uint8 images, or None if float images go in as the model
            takes them. Nothing but a cast where the model normalises by itself.
    """
    if isinstance(model, keras.Sequential):  # It shows no graph to walk.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    untouched = activation == "unchanged" and _computes_in(model, "float32")
    reference = model if untouched else copy(model, "float32")
    core, unfolded = _folded(model) if fold else (None, None)
    if core is None or not _computes_in(core, dtype):
        core = copy(core or model, dtype)
    for network in (reference, core):
        name = set_activation(network, activation)
    for layer in flat_layers(core):
        if isinstance(layer, GroupedConv2D):
            layer.implementation = "native"  # One operator, whatever trains fastest here.

    image, x = _entrance(model, shape, preprocessing)
    features, reference_features = classifier_input(core), classifier_input(reference)
    return ExportGraph(
        network=keras.Model(image, core(x), name=model.name),
        features=None if features is None else keras.Model(image, features(x), name="features"),
        reference=reference,
        reference_features=reference_features,
        activation=name,
        unfolded=unfolded,
    )


def _folded(model: keras.Model) -> tuple[keras.Model | None, str | None]:
    """The model without batch norms, or why there is none."""
    try:
        return fold_batch_norms(model), None
    except ValueError as error:
        return None, str(error)


def _entrance(
    model: keras.Model, shape: tuple[int | None, ...], preprocessing: Preprocessor | None
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Images as they go into the file, and what becomes of them in front of the model."""
    if preprocessing is None:
        image = keras.Input(batch_shape=shape, dtype="float32", name="image")
        return image, image
    image = keras.Input(batch_shape=shape, dtype="uint8", name="image")
    x = ops.cast(image, "float32")
    return image, x if has_preprocessing(model) else normalize(preprocessing)(x)


def copy(model: keras.Model, dtype: str) -> keras.Model:
    """A functional copy with weights of its own that computes in a type.

    Preprocessing and the classifier compute in float32 in any case, and quantized layers stay.
    """
    last = {layer.name for layer in itertools.islice(_ending(model), 2)}

    def clone(layer: layers.Layer) -> layers.Layer:
        if isinstance(layer, keras.Model):
            return copy(layer, dtype)
        config = layer.get_config()
        if not getattr(layer, "quantization_mode", None):
            exact = layer.name in last or isinstance(layer, (layers.Rescaling, Preprocessor))
            config["dtype"] = "float32" if exact else dtype
        return type(layer).from_config(config)

    twin = keras.models.clone_model(model, clone_function=clone)
    twin.set_weights(model.get_weights())
    if isinstance(twin, keras.Sequential):
        twin = keras.Model(twin.inputs[0], twin.outputs[0], name=model.name)
    return twin


def _computes_in(model: keras.Model, dtype: str) -> bool:
    return all(layer.compute_dtype == dtype for layer in flat_layers(model))


def set_activation(model: keras.Model, wanted: str) -> str:
    """Sets the activation of the output, unless it is to stay; returns its name."""
    last = next(_ending(model), None)
    found = getattr(last, "activation", None)
    name = "softmax" if isinstance(last, layers.Softmax) else getattr(found, "__name__", "linear")
    if wanted in ("unchanged", name):
        return name
    require(
        found is not None,
        "activation can be changed where the last layer has one, such as a Dense; leave it out",
        activation=wanted,
        last_layer=getattr(last, "name", None),
    )
    last.activation = keras.activations.get(wanted)
    return wanted


def classifier_input(model: keras.Model) -> keras.Model | None:
    """From images to what the last dense layer reads: the features of an image, (N, C)."""
    for layer in itertools.islice(_ending(model), 2):
        if isinstance(layer, layers.Dense):
            return keras.Model(model.input, layer.input)
    return None


def has_preprocessing(model: keras.Model) -> bool:
    """Whether a model normalises RGB values by itself."""
    kinds = (layers.Rescaling, layers.Normalization, Preprocessor)
    return any(isinstance(layer, kinds) for layer in flat_layers(model))


def known_preprocessing(
    model: keras.Model, given: Any = None, shape: Sequence[int | None] | None = None
) -> Preprocessor:
    """What a model's images are prepared with, as far as it is known.

    Args:
        model: the model; by its name, its architecture's preprocessing is known.
        given: what is known better: a `Preprocessor`, or what `preprocessor` takes.
        shape: of the model's images, with the batch.

    Returns:
        A `Preprocessor` for images of this shape. Where the model normalises by itself, it only
        resizes: mean 0 and deviation 1 / 255 leave the values 0 to 255 what they are.
    """
    if isinstance(given, Preprocessor):
        known = given
    else:
        ours = set(catalog.list_models())
        default = model.name if model.name in ours else {"input_size": (224, 224)}
        known = preprocessor(default if given is None else given)
    changes: dict[str, Any] = {"backend": "keras"}
    if shape is not None and None not in shape[1:3]:
        changes["size"] = list(shape[1:3])
    if has_preprocessing(model):
        changes |= {"mean": [0.0] * 3, "std": [1 / 255] * 3}
    return Preprocessor.from_config(known.get_config() | changes)


def normalize(preprocessing: Preprocessor) -> layers.Layer:
    """RGB values 0 to 255 to those that a model expects."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return layers.Rescaling((1 / (255 * std)).tolist(), (-mean / std).tolist(), name="preprocess")


def _ending(model: keras.Model) -> Iterator[Any]:
    """The layers from the output backwards."""
    return upstream(model, model.outputs[0])
