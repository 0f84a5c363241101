"""What is asked of an export: the arguments of `export`, checked, and their defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_resnets import catalog
from keras_resnets.checks import is_count, is_number, is_sequence, require, require_flag
from keras_resnets.deploy import int8
from keras_resnets.deploy.formats import find_format, format_of
from keras_resnets.deploy.formats.format import SIGNATURES, ExportRequest, Format
from keras_resnets.deploy.images import representative
from keras_resnets.deploy.inputs import ImageInputs, inputs_of
from keras_resnets.deploy.place import check_target
from keras_resnets.graph.endings import output_activation
from keras_resnets.graph.walk import flat_layers, require_functional
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.weights import published
from keras_resnets.weights.facts import check_threshold


def resolve(
    model: keras.Model,
    path: Any,
    *,
    format: Any,
    precision: Any,
    fold: Any,
    batch: Any,
    image_size: Any,
    include_preprocessing: Any,
    preprocessing: Any,
    activation: Any,
    signatures: Any,
    labels: Any,
    threshold: Any,
    architecture: str | None,
    licence: str | None,
    data: Any,
    keep_float: Any,
    tolerance: Any,
    overwrite: Any,
) -> ExportRequest:
    """Checks the arguments of `export`; see there for what they are and what is raised."""
    target = find_format(format_of(path) if format is None else format, precision)
    path = check_target(path, target, overwrite)
    _check_model(model, target)
    require_flag(fold=fold, include_preprocessing=include_preprocessing)
    inputs = inputs_of(model, preprocessing)
    shape = _input_shape(model, target, precision, batch, image_size, inputs)
    inputs = inputs.at_shape(shape)
    if include_preprocessing:
        require(
            shape[-1] == 3,
            "include_preprocessing needs a model of 3 input channels (RGB)",
            input_shape=shape,
        )
        inputs.require_normalization("include_preprocessing normalises uint8 images")
    checkpoint = _named_checkpoint(preprocessing)
    return ExportRequest(
        path=path,
        format=target,
        precision=precision,
        shape=shape,
        fold=fold,
        normalizes=include_preprocessing,
        inputs=inputs,
        activation=_checked_activation(activation),
        signatures=_checked_signatures(signatures, target, shape, inputs),
        labels=_checked_labels(labels, model),
        threshold=_checked_threshold(threshold, activation, model),
        architecture=architecture or (checkpoint and checkpoint.architecture),
        licence=licence or (checkpoint and checkpoint.license),
        tolerance=_checked_tolerance(tolerance, target, precision),
        keep_float=int8.checked_keep_float(model, precision, keep_float),
        samples=representative(
            data,
            precision=precision,
            shape=shape,
            uint8=include_preprocessing,
            inputs=inputs,
        ),
    )


def _check_model(model: keras.Model, format: Format) -> None:
    require_functional(model, images=True, one_output=True)
    backend = keras.backend.backend()
    require(
        backend == format.backend,
        f"format {format.name!r} needs Keras' backend {format.backend}, whatever the model was "
        f"trained on: save it, and load and export it with KERAS_BACKEND={format.backend}",
        backend=backend,
    )
    resizing = [layer.name for layer in flat_layers(model) if isinstance(layer, Preprocessor)]
    require(
        format.resizes or not resizing,
        f"format {format.name!r} has no operator that resizes with antialiasing: take the "
        "Preprocessor off the model and pass it as preprocessing",
        layers=resizing,
    )
    quantized = [
        layer.name for layer in flat_layers(model) if getattr(layer, "quantization_mode", None)
    ]
    require(
        not (quantized and format.refuses_quantized),
        f"a model must not have been quantized by Keras for format {format.name!r}: "
        f"{format.refuses_quantized}",
        quantized=quantized[:3],
    )


# Shape -------------------------------------------------------------------------------------------


def _input_shape(
    model: keras.Model,
    format: Format,
    precision: str,
    batch: Any,
    image_size: Any,
    inputs: ImageInputs,
) -> tuple[int | None, ...]:
    """Shape of the images that the file takes."""
    model_shape = model.inputs[0].shape
    if image_size is None and format.fixed_shape and None in model_shape[1:3]:
        reason = f"format {format.name!r} needs an image_size, or that of the preparation"
        image_size = inputs.require_preparation(reason).size
    size = _wanted_size(image_size, model_shape[1:3])
    require(
        batch in (None, "dynamic") or is_count(batch),
        'batch must be a positive int or "dynamic"',
        batch=batch,
    )
    if batch is None:
        batch = model_shape[0] or (1 if format.fixed_shape else "dynamic")
    shape = (None if batch == "dynamic" else batch, *size, model_shape[-1])
    require(
        all(side in (None, wanted) for side, wanted in zip(model_shape, shape, strict=True)),
        "batch and image_size must be the model's where it has fixed ones; build it with "
        "input_shape=(None, None, channels) for any size",
        batch=batch,
        image_size=image_size,
        input_shape=model_shape,
    )
    require(
        precision not in format.fixed_shape_for or None not in shape,
        f"precision {precision!r} of format {format.name!r} needs a fixed batch and image_size, "
        "which the file is calibrated for",
        batch=batch,
        image_size=image_size,
    )
    return shape


def _wanted_size(
    image_size: Any, model_size: tuple[int | None, ...]
) -> tuple[int | None, int | None]:
    """Height and width, None for any."""
    if image_size is None:
        return (None, None) if None in model_size else model_size
    size = (image_size, image_size) if is_count(image_size) else image_size
    if isinstance(size, str) and size == "dynamic":
        return None, None
    require(
        is_sequence(size, 2) and all(map(is_count, size)),
        'image_size must be a side in pixels, (height, width) or "dynamic"',
        image_size=image_size,
    )
    return tuple(size)


# The other arguments -----------------------------------------------------------------------------


def _checked_activation(activation: Any) -> str:
    known = isinstance(activation, str)
    if known and activation != "unchanged":
        try:
            keras.activations.get(activation)
        except ValueError:
            known = False
    require(
        known,
        'activation must be the name of a Keras activation, "linear" for logits or "unchanged"',
        activation=activation,
    )
    return activation


def _checked_signatures(
    signatures: Any, format: Format, shape: tuple[int | None, ...], inputs: ImageInputs
) -> tuple[str, ...]:
    require(
        isinstance(signatures, (tuple, list))
        and "serve" in signatures
        and set(signatures) <= set(SIGNATURES)
        and len(set(signatures)) == len(signatures),
        f"signatures must be 'serve' and others of {', '.join(map(repr, SIGNATURES))}",
        signatures=signatures,
    )
    require(
        set(signatures) <= set(format.signatures),
        f"format {format.name!r} must have no signatures but "
        f"{', '.join(map(repr, format.signatures))}; several need the format 'saved_model'",
        signatures=signatures,
    )
    if "serve_bytes" in signatures:
        require(
            shape[-1] == 3,
            "the signature 'serve_bytes' needs a model of 3 input channels (RGB)",
            input_shape=shape,
        )
        inputs.require_preparation("the signature 'serve_bytes' resizes images")
    return tuple(signatures)


def _checked_labels(labels: Sequence[str] | None, model: keras.Model) -> list[str]:
    classes = model.outputs[0].shape[-1] if len(model.outputs[0].shape) == 2 else None
    if labels is None:
        names = published.class_names()
        return [name for _, name in names] if classes == len(names) else []
    require(
        isinstance(labels, (list, tuple))
        and all(isinstance(label, str) and "\n" not in label for label in labels)
        and len(labels) == classes,
        f"labels must be a name of one line for each of the {classes} outputs",
        labels=labels,
    )
    return list(labels)


def _checked_threshold(threshold: Any, activation: str, model: keras.Model) -> float | None:
    check_threshold(threshold)
    if threshold is None:
        return None
    ends_in = output_activation(model) if activation == "unchanged" else activation
    require(
        ends_in in ("sigmoid", "linear") and len(model.outputs[0].shape) == 2,
        "threshold is for a model of several labels an image: the activation must be 'sigmoid', or "
        "'linear' for the logits",
        threshold=threshold,
        activation=ends_in,
    )
    return float(threshold)


def _checked_tolerance(tolerance: Any, format: Format, precision: str) -> float:
    require(
        tolerance is None or (is_number(tolerance) and tolerance > 0),
        "tolerance must be a positive number",
        tolerance=tolerance,
    )
    return format.tolerances[precision] if tolerance is None else tolerance


def _named_checkpoint(preprocessing: Any) -> published.Pretrained | None:
    """The published checkpoint that was named, if one was."""
    return catalog.find_tagged(preprocessing)[1] if isinstance(preprocessing, str) else None
