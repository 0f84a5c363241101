"""What the commands `keras-resnets predict` and `keras-resnets convert` do."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
from keras import ops

from keras_resnets import catalog
from keras_resnets.checks import is_count, require
from keras_resnets.files import atomic_write, write_keras_weights
from keras_resnets.graph import grad_cam
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.preprocessing import likeliest, preprocessor
from keras_resnets.weights import checkpoint, fit, hub, published


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
        classes: the likeliest classes, likeliest first.
        explanation: path of the picture that shows what the first of them rests on, or None.
    """

    image: str
    classes: tuple[ClassScore, ...]
    explanation: str | None


def predict(
    paths: Iterable[str | os.PathLike],
    name: str,
    weights: str | None = None,
    *,
    top: int = 5,
    explanation: str | os.PathLike | None = None,
) -> list[Prediction]:
    """Classifies image files.

    Args:
        paths: the files; see `Preprocessor.load`.
        name: of the model, as for `create_model`; its tag chooses the weights, if it has one. A
            repository (`"hf://owner/repository"`, or the path of a folder) has both.
        weights: as for `create_model`: a file, a folder, a tag or `"hf://owner/repository"`;
            default: the name's tag, else `"imagenet"`. Images are prepared as the weights say: by
            their tag, their repository's config.json, or the metadata of a safetensors file; a
            file that says nothing gets what `preprocessor(name)` is.
        top: how many classes an image, or all if the model has fewer.
        explanation: a `.png` file to be written: the image as the model saw it under the Grad-CAM
            of its likeliest class. Of several images every one gets its own, numbered in their
            order: `out-1.png`, `out-2.png`, ...

    Returns:
        A prediction for each image, in their order. Classes have names if the weights' repository
        lists them or there are 1,000 of them, which are taken for ImageNet's.

    Raises:
        ValueError: if an argument is out of its range, an image cannot be read, or the weights
            cannot be had or do not fit.
        FileNotFoundError: if there is no such image.
        OSError: if the explanation cannot be written.
    """
    paths = [os.fspath(path) for path in paths]
    require(len(paths) > 0, "paths must name at least one image file", paths=paths)
    require(is_count(top), "top must be a positive int", top=top)
    pictures = _numbered(explanation, len(paths))
    # All that may be wrong with arguments and files shows before a model is built.
    found: Any = weights
    # A folder with the name of a model is meant only if it is written as a path: "./resnet50".
    if hub.is_source(name) or (os.path.isdir(name) and os.path.basename(name) != name):
        require(weights is None, "weights must be left out: a repository has its own", model=name)
        found = hub.fetch(name)
        require(
            found.architecture is not None,
            "config.json must name the architecture; name it yourself, with this as the weights",
            model=name,
        )
        name = found.architecture
    elif weights is not None and (hub.is_source(weights) or os.path.isdir(weights)):
        found = hub.fetch(weights)
    variant, _ = catalog.find_tagged(name)
    prepare = _preprocessor_of(name, variant.name, found)
    batches = [prepare.load(path) for path in paths]

    model = catalog.create_model(name, **({} if found is None else {"weights": found}))
    names = _class_names(found, model.output_shape[-1])
    predictions = []
    for path, picture, images in zip(paths, pictures, batches, strict=True):
        probabilities = ops.convert_to_numpy(grad_cam.run(model, images))[0]
        best = likeliest(probabilities, top)
        if picture is not None:
            heat = grad_cam.grad_cam(model, images, best[0])[0]
            _write_picture(grad_cam.overlay(prepare.to_rgb(images)[0], heat), picture)
        classes = [
            ClassScore(rank, index, *(names[index] if names else (None, None)), float(value))
            for rank, index in enumerate(best, start=1)
            for value in [probabilities[index]]
        ]
        predictions.append(Prediction(path, tuple(classes), picture))
    return predictions


def convert_file(
    source: str | os.PathLike, target: str | os.PathLike, name: str, *, overwrite: bool = False
) -> keras.Model:
    """Turns a checkpoint into another format by way of the model that it belongs to.

    Args:
        source: any file, folder or address that `create_model(weights=...)` reads.
        target: the new file, ending in `.safetensors` (timm's layout), `.weights.h5` (Keras'
            weights) or `.keras` (Keras' whole model, which ends in a softmax).
        name: of the model, as for `create_model`. Its tag, if it has one, is noted in a
            `.safetensors` file.
        overwrite: whether to replace an existing file.

    Returns:
        The model with the weights. It has the checkpoint's classes and input channels.

    Raises:
        ValueError: if a path is not as above, the target exists, or the checkpoint is damaged or
            does not fit.
        FileNotFoundError: if there is no such checkpoint.
        OSError: if the target cannot be written; what was there before stays.
    """
    target = os.fspath(target)
    require(
        target.endswith((".safetensors", ".weights.h5", ".keras")),
        "OUT must end in .safetensors, .weights.h5 or .keras",
        OUT=target,
    )
    require(
        overwrite or not os.path.lexists(target),
        "OUT must not exist yet; --overwrite replaces it",
        OUT=target,
    )
    require(
        os.path.isdir(os.path.dirname(target) or "."),
        "OUT must be in a folder that exists",
        OUT=target,
    )
    variant, published = catalog.find_tagged(name)
    if hub.is_source(source) or os.path.isdir(source):
        source = hub.fetch(source).path
    file = checkpoint.read(source)
    model = variant(weights=None)
    file = fit.located(file, model)
    classes, channels = fit.classes_in(file), fit.channels_in(file, model)
    if classes not in (None, model.output_shape[-1]) or channels != model.input_shape[-1]:
        model = variant(weights=None, classes=classes, input_shape=(None, None, channels))
    fit.load_weights(model, file)

    if target.endswith(".safetensors"):
        tag = published and published.tag
        said = file.facts.of_the_weights()
        fit.save_safetensors(model, target, architecture=variant.name, tag=tag, metadata=said)
    elif target.endswith(".keras"):
        with atomic_write(target) as unfinished:
            model.save(unfinished)
    else:
        write_keras_weights(target, model)
    return model


def _preprocessor_of(name: str, architecture: str, weights: Any) -> Preprocessor:
    """The preprocessing of weights that are None, a tag, a file or a fetched repository."""
    if weights is None:
        return preprocessor(name)
    if isinstance(weights, hub.HubRepository):
        config = weights.config or {}
        stated = "input_size" in {**config, **(config.get("pretrained_cfg") or {})}
        return preprocessor(config if stated else architecture)
    if weights in published.table().get(architecture, {}):
        return preprocessor(f"{architecture}.{weights}")
    metadata = _safetensors_metadata(weights)
    return preprocessor(metadata if "input_size" in metadata else architecture)


def _safetensors_metadata(path: str) -> dict[str, Any]:
    """What `save_safetensors` noted in a file; nothing for other files.

    A file that cannot be read is no concern here: loading it says so.
    """
    if not (path.endswith(".safetensors") and os.path.isfile(path)):
        return {}
    try:
        with safetensors.safe_open(path, framework="np") as file:
            texts = file.metadata() or {}
    except (safetensors.SafetensorError, OSError):
        return {}
    values = {}
    for key in ("input_size", "crop_pct", "interpolation", "mean", "std"):
        if key in texts:
            try:
                values[key] = json.loads(texts[key])
            except ValueError:  # A text is written as it is.
                values[key] = texts[key]
    return values


def _class_names(weights: Any, classes: int) -> Sequence[tuple[str, str]] | None:
    """Label and name of each class, if they are known."""
    if isinstance(weights, hub.HubRepository):
        config = {**(weights.config or {})}
        labels = config.get("label_names")
        if isinstance(labels, list) and len(labels) == classes:
            descriptions = config.get("label_descriptions")
            descriptions = descriptions if isinstance(descriptions, dict) else {}
            return [(str(label), str(descriptions.get(label, label))) for label in labels]
    names = published.class_names()
    return names if classes == len(names) else None


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
