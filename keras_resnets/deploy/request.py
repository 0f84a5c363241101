"""What is asked of an export: the arguments of `export`, checked, and their defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnets import catalog
from keras_resnets.checks import is_count, is_number, is_sequence, require, require_flag
from keras_resnets.deploy import int8
from keras_resnets.deploy.formats import find_format
from keras_resnets.deploy.formats.format import SIGNATURES, ExportRequest, Format
from keras_resnets.deploy.images import representative
from keras_resnets.deploy.place import check_target
from keras_resnets.deploy.prepare import known_preprocessing
from keras_resnets.graph.walk import flat_layers
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.weights import published


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
    licence: str | None,
    data: Any,
    keep_float: Any,
    tolerance: Any,
    overwrite: Any,
) -> ExportRequest:
    """Checks the arguments of `export`; see there for what they are and what is raised."""
    target = find_format(format, precision)
    path = check_target(path, target, overwrite)
    _check_model(model, target)
    require_flag(fold=fold, include_preprocessing=include_preprocessing)
    known = known_preprocessing(model, preprocessing)
    shape = _input_shape(model, target, precision, batch, image_size, known.size)
    known = known_preprocessing(model, preprocessing, shape)
    require(
        shape[-1] == 3 or not include_preprocessing,
        "include_preprocessing needs a model of 3 input channels (RGB)",
        input_shape=shape,
    )
    return ExportRequest(
        path=path,
        format=target,
        precision=precision,
        shape=shape,
        fold=fold,
        normalizes=include_preprocessing,
        preprocessing=known,
        activation=_checked_activation(activation),
        signatures=_checked_signatures(signatures, target, shape),
        labels=_checked_labels(labels, model),
        licence=licence or _licence(preprocessing),
        tolerance=_checked_tolerance(tolerance, target, precision),
        keep_float=int8.checked_keep_float(model, precision, keep_float),
        images=representative(
            data,
            precision=precision,
            shape=shape,
            uint8=include_preprocessing,
            preprocessing=known,
        ),
    )


def _check_model(model: keras.Model, format: Format) -> None:
    graph = isinstance(model, keras.Model) and hasattr(model, "operations")
    require(
        graph or (isinstance(model, keras.Sequential) and model.built),
        "model must be a functional or built sequential keras.Model; make one of a subclassed "
        "model with keras.Model(x, model(x)) for an x = keras.Input(...)",
        model=model,
    )
    require(
        len(model.inputs) == 1 and len(model.inputs[0].shape) == 4 and len(model.outputs) == 1,
        "model must have one input of images (batch, height, width, channels) and one output",
        inputs=[tensor.shape for tensor in model.inputs],
        outputs=[tensor.shape for tensor in model.outputs],
    )
    backend = keras.backend.backend()
    require(
        backend == "tensorflow",
        "exporting needs Keras' TensorFlow backend, whatever the model was trained on: save it, "
        "and load and export it with KERAS_BACKEND=tensorflow",
        backend=backend,
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
    usual_size: tuple[int, int],
) -> tuple[int | None, ...]:
    """Shape of the images that the file takes."""
    model_shape = model.inputs[0].shape
    size = _wanted_size(image_size, model_shape[1:3], usual_size if format.fixed_shape else None)
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
    image_size: Any, model_size: tuple[int | None, ...], usual_size: tuple[int, int] | None
) -> tuple[int | None, int | None]:
    """Height and width, None for any; the usual size is for a model of any size, if fixed."""
    if image_size is None and None not in model_size:
        return model_size
    size = usual_size or "dynamic" if image_size is None else image_size
    size = (size, size) if is_count(size) else size
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
    signatures: Any, format: Format, shape: tuple[int | None, ...]
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
    require(
        "serve_bytes" not in signatures or shape[-1] == 3,
        "the signature 'serve_bytes' needs a model of 3 input channels (RGB)",
        input_shape=shape,
    )
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


def _checked_tolerance(tolerance: Any, format: Format, precision: str) -> float:
    require(
        tolerance is None or (is_number(tolerance) and tolerance > 0),
        "tolerance must be a positive number",
        tolerance=tolerance,
    )
    return format.tolerances[precision] if tolerance is None else tolerance


def _licence(preprocessing: str | Mapping[str, Any] | Preprocessor | None) -> str | None:
    """That of the published checkpoint which was named, if one was."""
    if not isinstance(preprocessing, str):
        return None
    checkpoint = catalog.find_tagged(preprocessing)[1]
    return checkpoint and checkpoint.license
