"""Images on their way into a model, and its predictions on their way out.

Preprocessing belongs to the weights: a checkpoint that was evaluated on bicubic 288x288 crops
loses accuracy on anything else. `preprocessor` makes the layer that belongs to published weights,
`Preprocessor` any other one of the kind, and `preprocess_input` is the common case where images
already have their size.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import KerasTensor, ops

from keras_resnets import catalog, loading
from keras_resnets.checks import is_count, require, require_flag
from keras_resnets.layers.preprocessor import (
    Preprocessor,
    normalised,
    require_known_rank,
    require_rgb,
)
from keras_resnets.preparation import IMAGENET_MEAN, IMAGENET_STD, Preparation
from keras_resnets.weights import published


def preprocess_input(images: Any, data_format: str | None = None) -> Any:
    """RGB values 0 to 255 to ImageNet's zero mean and unit variance, as nearly all weights expect.

    Neither resizes nor crops; see `preprocessor` for both and for weights with another mean.

    Args:
        images: RGB images, uint8 or float from 0 to 255, of shape `(..., 3)`: a NumPy array, what
            makes one (a list, a PIL image), a tensor, or a symbolic `keras.KerasTensor`. It is
            not modified.
        data_format: None or `"channels_last"`, as in `keras.applications`.

    Returns:
        The normalised images in float32: a NumPy array for one, else a tensor of the backend.

    Raises:
        ValueError: if the last axis does not have the 3 channels of RGB.

    Example:

    >>> keras_resnets.preprocess_input(np.full((1, 224, 224, 3), 255, "uint8")).max()
    2.64

    Source:
        Mean and standard deviation of ImageNet's training images, as in torchvision and timm.
    """
    require(
        data_format in (None, "channels_last"),
        "data_format must be 'channels_last' or left out",
        data_format=data_format,
    )
    if isinstance(images, KerasTensor) or ops.is_tensor(images):
        images = ops.cast(images, "float32")
    else:
        images = np.asarray(images, "float32")
    require_known_rank(images)
    require_rgb(images.shape, ranks=None)
    return normalised(images, IMAGENET_MEAN, IMAGENET_STD)


def preprocessor(
    name: str | os.PathLike | Mapping[str, Any], *, backend: str = "keras", test_size: bool = False
) -> Preprocessor:
    """The preprocessing that belongs to published weights.

    Args:
        name: an architecture with a tag (`"resnest50d.in1k"`), or without one: then that of its
            `"imagenet"` weights. Where no published weights are meant by that, it is what all of
            them agree on, as CLIP's do, else timm's usual one: 224x224 (32x32 for CIFAR forms),
            bilinear, `crop_pct` 0.875, and ImageNet's mean and standard deviation. Or a mapping
            such as the `config.json` of a repository on the Hugging Face hub, or its
            `"pretrained_cfg"`; what it leaves out is the usual.
        backend: how to resize, `"keras"` or `"pil"`; see `Preprocessor`.
        test_size: whether to take the larger test size of weights that were published with one;
            their best reported accuracy is often at that size.

    Returns:
        A `Preprocessor` layer; call it on arrays, or its `load` on files.

    Raises:
        TypeError: if the name is neither a string nor a mapping.
        ValueError: if there is no such architecture or no such tag (the message suggests others),
            or the mapping describes what `Preprocessor` cannot do.

    Example:

    >>> preprocess = keras_resnets.preprocessor("resnest50d.in1k")
    >>> model = keras_resnets.ResNeSt50(weights="in1k")
    >>> keras_resnets.decode_predictions(model.predict(preprocess.load("cat.jpg")))

    Source:
        timm's configuration of each checkpoint; see `keras_resnets.weights.published`.
    """
    require_flag(test_size=test_size)
    if isinstance(name, Mapping):
        known = Preparation.stated_in(name)
        require(
            known is not None,
            "name must be a mapping with an input_size, or with a pretrained_cfg that has one",
            name=name,
        )
    else:
        known = _known(name)
    return Preprocessor.of(known.at_test_size() if test_size else known, backend)


def _known(name: str | os.PathLike) -> Preparation:
    """The preparation of what a name stands for; the usual one of an architecture without weights.

    The weights of a published checkpoint are not fetched: the catalog states their preparation.
    """
    if isinstance(name, str) and catalog.is_known(name.partition(".")[0]):
        variant, tagged = catalog.find_tagged(name)
        entries = [tagged] if tagged else list(variant.pretrained.values())
        stated = {e.preparation for e in entries if e.imagenet} or {e.preparation for e in entries}
        # Without a choice, what all the published weights agree on.
        return stated.pop() if len(stated) == 1 else Preparation(size=variant.config.image_size)
    return loading.locate(name).preparation_or_usual()


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The likeliest of ImageNet's 1,000 classes for each image. Works offline.

    Args:
        predictions: array or tensor `(batch, 1000)` of probabilities. They are passed on as they
            are: a model with `classifier_activation=None` returns logits, and those would come
            out as logits. No softmax is applied here.
        top: how many classes an image.

    Returns:
        For each image a list of `(synset, name, probability)`, likeliest first:
        `("n02124075", "Egyptian cat", 0.83)`.

    Raises:
        ValueError: if the shape or the number of classes is another, a value is not finite, or
            `top` is not from 1 to 1000.

    Example:

    >>> decoded = keras_resnets.decode_predictions(model.predict(images), top=3)
    """
    values = np.asarray(
        ops.convert_to_numpy(predictions) if ops.is_tensor(predictions) else predictions
    )
    names = published.class_names()
    require(
        values.ndim == 2 and values.shape[1] == len(names),
        f"predictions must have the shape (batch, {len(names)}), ImageNet's classes",
        shape=values.shape,
    )
    require(
        is_count(top) and top <= len(names), f"top must be an int from 1 to {len(names)}", top=top
    )
    require(bool(np.isfinite(values).all()), "predictions must be finite", predictions=values)
    return [[(*names[index], float(row[index])) for index in likeliest(row, top)] for row in values]


def likeliest(probabilities: np.ndarray, top: int) -> list[int]:
    """Indices of the highest values of a vector, highest first; of equals, the first."""
    return np.argsort(-probabilities, kind="stable")[:top].tolist()
