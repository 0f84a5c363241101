"""Exporting a model, and running what was written before anybody else does."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnets.checks import require
from keras_resnets.deploy import metadata
from keras_resnets.deploy.compare import Comparison, compare
from keras_resnets.deploy.formats.format import ExportRequest
from keras_resnets.deploy.place import put_in_place, size_of, written_beside
from keras_resnets.deploy.prepare import ExportGraph, prepare
from keras_resnets.deploy.report import ExportReport
from keras_resnets.deploy.request import resolve
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.preparation import Preparation


def export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    format: str | None = None,
    precision: str = "float32",
    fold: bool = True,
    batch: int | str | None = None,
    image_size: int | Sequence[int] | str | None = None,
    include_preprocessing: bool = False,
    preprocessing: str | Mapping[str, Any] | Preparation | Preprocessor | None = None,
    activation: str = "unchanged",
    signatures: Sequence[str] = ("serve",),
    labels: Sequence[str] | None = None,
    threshold: float | None = None,
    architecture: str | None = None,
    licence: str | None = None,
    data: Any = None,
    keep_float: Sequence[str] | None = None,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Writes a model for TensorFlow Serving, LiteRT, ONNX Runtime or OpenVINO, and checks the file.

    What was written is loaded in a process of its own, which knows nothing of Keras, and run on
    the same images as the model. If an output differs by more than the tolerance, the export fails
    and nothing is left. Files are written in a folder beside their place and moved there when they
    are good. An export that is interrupted leaves nothing either; one that is killed leaves that
    folder, whose name begins with `.unfinished-`.

    Metadata goes into the file; `keras_resnets.deploy.metadata` says how it is read.

    Args:
        model: a functional or built sequential `keras.Model`, of this package or not, with one
            input of images `(batch, height, width, channels)` and one output.
        path: what to write: a folder for `"saved_model"`, else a file ending in `.tflite`,
            `.onnx` or `.xml` (beside which OpenVINO has a `.bin`).
        format: `"saved_model"`, `"litert"`, `"onnx"` or `"openvino"`. Default: by the end of the
            path, which must then be one of theirs.
        precision: `"float32"`; `"float16"`; `"bfloat16"` (saved_model);
            `"int8"`: weights, a scale a channel, and activations, calibrated with `data` (litert,
            onnx, openvino); `"int8-dynamic"`: weights only, activations as they come (litert,
            onnx). Inputs and outputs are float32 or, with preprocessing, uint8 in any case.
        fold: whether to fold batch norms into convolutions. A model in which that cannot be done
            is exported with them, and a warning says why.
        batch: how many images go in at once, or `"dynamic"`. Default: 1 for `"litert"`, whose
            delegates need to know, else `"dynamic"`.
        image_size: side of square images, `(height, width)`, or `"dynamic"`. Default: the model's;
            of a model for any size `"dynamic"`, for `"litert"` the size of `preprocessing`.
        include_preprocessing: whether the file takes uint8 RGB values and normalises them.
        preprocessing: how images are prepared for the weights: a published checkpoint
            (`"resnest50d.in1k"`), a `Preparation`, a mapping that states one, or a `Preprocessor`.
            Where the model's own first layers normalise, they count for that. Default: what those
            layers say. The rest is not known then: it is left out of the metadata, and asked for
            where it is needed.
        activation: of the output: `"softmax"`, `"sigmoid"`, `"linear"` (logits) or another Keras
            activation's name instead of the model's own; `"unchanged"` leaves it.
        signatures: of a SavedModel, `"serve"` and any of: `"features"`, which returns what the
            classifier reads, and `"serve_bytes"`, which takes the bytes of JPEG, PNG, GIF or WebP
            files of any size.
        labels: names of the classes. Default: ImageNet's, of a model with 1,000 outputs.
        threshold: of a model that says of each class by itself whether it is in the image: the
            probability from which it is. It goes into the metadata, by which readers list all
            labels that reach it.
        architecture: the name of the network's. Default: as for the licence.
        licence: of the weights. Default: that of the checkpoint that `preprocessing` names.
        data: representative images, which int8 is calibrated with and every export is compared on:
            an array of uint8 RGB or of what the file takes, or what `training.data.load` takes
            (its training split). int8 is calibrated with three quarters of them and compared on
            the others. Default, where nothing is calibrated: random images.
        keep_float: names of layers that int8 leaves in float, with the wildcards `*` and `?`.
            Default: what `int8.default_keep_float` says; `()` for none.
        tolerance: largest difference of an output, in units of the largest output of the model.
            Default: float32 1e-5 (saved_model), 1e-4 (onnx, openvino), 1e-3 (litert); float16
            1e-2; bfloat16 5e-2; int8 0.5, which only tells a broken file from a coarse one.
        overwrite: whether to replace what is at `path`.

    Returns:
        An `ExportReport`: size, operators, differences, top-1 agreement, latency; prints as a
        table.

    Raises:
        ValueError: if an argument is out of its range, arguments contradict each other, or
            something about images is needed and not stated, before any work; or if the file's
            outputs differ too much.
        ImportError: if a package is missing that writes or runs the format; names what to install.
        OSError: if the path cannot be written.
        RuntimeError: if the file cannot be run.

    Example:

    >>> model = keras_resnets.ResNet50()
    >>> print(keras_resnets.export(model, "resnet50.onnx", preprocessing="resnet50.a1_in1k"))
    """
    request = resolve(
        model,
        path,
        format=format,
        precision=precision,
        fold=fold,
        batch=batch,
        image_size=image_size,
        include_preprocessing=include_preprocessing,
        preprocessing=preprocessing,
        activation=activation,
        signatures=signatures,
        labels=labels,
        threshold=threshold,
        architecture=architecture,
        licence=licence,
        data=data,
        keep_float=keep_float,
        tolerance=tolerance,
        overwrite=overwrite,
    )
    with written_beside(request.path) as folder:
        graph = _prepared(model, request)
        notes = metadata.describe(graph, request)
        # Under a name of ours, because some tools read paths as patterns.
        written = folder / f"model{request.format.suffix}"
        request.format.write(graph, request, written, notes)
        comparison = compare(graph, request, written)
        files = request.format.files(written)
        size = size_of(files)
        put_in_place(files, request.format.files(request.path))
    return _report(request, graph, comparison, size, notes)


def _prepared(model: keras.Model, request: ExportRequest) -> ExportGraph:
    """The graph that is asked for."""
    graph = prepare(
        model,
        shape=request.shape,
        fold=request.fold,
        dtype=request.keras_dtype,
        activation=request.activation,
        inputs=request.inputs,
        uint8=request.normalizes,
    )
    require(
        "features" not in request.signatures or graph.features is not None,
        "the signature 'features' needs a model that ends in a Dense layer",
        signatures=request.signatures,
    )
    if graph.unfolded:
        warnings.warn(f"Exported with batch norms: {graph.unfolded}", stacklevel=3)
    return graph


def _report(
    request: ExportRequest,
    graph: ExportGraph,
    comparison: Comparison,
    size: int,
    notes: dict[str, Any],
) -> ExportReport:
    calibration = request.samples.calibration
    return ExportReport(
        path=str(request.path),
        format=request.format.name,
        precision=request.precision,
        input_shape=request.shape,
        size=size,
        tolerance=request.tolerance,
        calibrated=0 if calibration is None else len(calibration),
        unfolded=graph.unfolded,
        metadata=notes,
        **dataclasses.asdict(comparison),
    )
