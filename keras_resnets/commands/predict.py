"""What `keras-resnets predict` does."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from keras_resnets.checks import is_count, require
from keras_resnets.files import atomic_write
from keras_resnets.graph import grad_cam
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.loading import locate
from keras_resnets.preparation import Preparation
from keras_resnets.preprocessing import likeliest
from keras_resnets.weights.facts import check_threshold, threshold_of


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """One of an image's likeliest classes.

    Attributes:
        rank: 1 for the likeliest.
        index: of the class in the model's output.
        synset: its synset in WordNet, or its label in the weights' repository, or None.
        name: in words, or None where only the index is known.
        probability: of the class, from 0 to 1.
    """

    rank: int
    index: int
    synset: str | None
    name: str | None
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        image: path of the image.
        classes: the likeliest classes, likeliest first; of a model of several labels an image those
            that reach the threshold, which may be none.
        threshold: the probability from which an image has a label; None where it has one class.
        explanation: path of the picture that shows what the first of them rests on, or None.
    """

    image: str
    classes: tuple[ClassScore, ...]
    threshold: float | None
    explanation: str | None


def predict(
    paths: Iterable[str | os.PathLike],
    model: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    *,
    top: int | None = None,
    threshold: float | None = None,
    explanation: str | os.PathLike | None = None,
) -> list[Prediction]:
    """Classifies image files, prepared as the weights state.

    Args:
        paths: the files; see `Preprocessor.load`.
        model: as for `loading.locate`.
        weights: likewise.
        top: how many classes an image, or all if the model has fewer; whatever their probability.
            Default: 5; of a model of several labels an image, all that reach its threshold.
        threshold: another than the model states, which is of several labels an image.
        explanation: a `.png` file to be written: the image as the model saw it under the Grad-CAM
            of its likeliest class. Of several images every one gets its own, numbered in their
            order: `out-1.png`, `out-2.png`, ...

    Returns:
        A prediction for each image, in their order. Classes have names if the weights state them
        or there are 1,000, which are taken for ImageNet's.

    Raises:
        ValueError: if an argument is out of its range, an image cannot be read, or the weights
            cannot be had or do not fit.
        FileNotFoundError: if there is no such image.
        OSError: if the explanation cannot be written.
    """
    paths = [os.fspath(path) for path in paths]
    require(len(paths) > 0, "paths must name at least one image file", paths=paths)
    require(top is None or is_count(top), "top must be a positive int", top=top)
    check_threshold(threshold)
    pictures = _numbered(explanation, len(paths))
    # All that may be wrong with arguments and files shows before a model is built.
    located = locate(model, weights)
    threshold = threshold_of(located.threshold, threshold)
    stated = None if located.whole else located.preparation  # A saved model may be of one size.
    batches = stated and [_prepared(stated, path) for path in paths]
    classifier = located.build_classifier()
    if batches is None:
        batches = [_prepared(classifier.preparation, path) for path in paths]

    predictions = []
    for path, picture, images in zip(paths, pictures, batches, strict=True):
        scores = grad_cam.run(classifier.model, images)
        probabilities = classifier.as_probabilities(scores)[0]
        best = likeliest(probabilities, top or (5 if threshold is None else len(probabilities)))
        if picture is not None:
            heat = grad_cam.grad_cam(classifier.model, images, best[0])[0]
            _write_picture(grad_cam.overlay(images[0].astype("uint8"), heat), picture)
        names = classifier.class_names
        classes = [
            ClassScore(rank, index, *(names[index] if names else (None, None)), float(value))
            for rank, index in enumerate(best, start=1)
            for value in [probabilities[index]]
            if top or threshold is None or value >= threshold
        ]
        predictions.append(Prediction(path, tuple(classes), threshold, picture))
    return predictions


def _prepared(preparation: Preparation, path: str) -> np.ndarray:
    """An image as it goes into the classifier: RGB values 0 to 255, in whole numbers."""
    images = Preprocessor.of(preparation.without_normalization()).load(path)
    return np.rint(keras.ops.convert_to_numpy(images)).astype("float32")


def _numbered(path: str | os.PathLike | None, count: int) -> list[str | None]:
    """The file of each image's explanation, checked before there is anything to write."""
    if path is None:
        return [None] * count
    path = Path(path)
    require(
        path.suffix.lower() == ".png" and path.parent.is_dir(),
        "explain must be a file ending in .png, in a folder that exists",
        explain=str(path),
    )
    if count == 1:
        return [str(path)]
    return [str(path.with_stem(f"{path.stem}-{number}")) for number in range(1, count + 1)]


def _write_picture(picture: np.ndarray, path: str) -> None:
    from PIL import Image  # Here, so that importing this stays cheap.

    with atomic_write(path) as unfinished:
        Image.fromarray(picture).save(unfinished)
