"""TensorFlow's SavedModel: a folder, for TensorFlow Serving and for TensorFlow itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_resnets.deploy import verify
from keras_resnets.deploy.formats.format import LOSSY, SIGNATURES, ExportRequest, Format
from keras_resnets.deploy.prepare import ExportGraph
from keras_resnets.layers.preprocessor import Preprocessor

# What begins with one of these is a file that `serve_bytes` decodes: JPEG, PNG, GIF, WebP.
_KINDS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
_NOT_DECODED = "serve_bytes must get whole JPEG, PNG, GIF or WebP files; convert others first"
_NONE = "serve_bytes must get at least one file"


def write(graph: ExportGraph, request: ExportRequest, path: Path, metadata: dict[str, Any]) -> None:
    """Writes a folder with one endpoint a signature.

    Metadata is in `assets.extra/metadata.json`, the place for what TensorFlow leaves alone.
    """
    if set("[]\\") & set(str(request.path)):
        warnings.warn(
            "TensorFlow loads no SavedModel from a path with a bracket or a backslash in it, which "
            f"it reads as a pattern: move the folder first. Received: path={str(request.path)!r}",
            stacklevel=4,
        )
    archive = keras.export.ExportArchive()
    archive.track(graph.network)
    for name in request.signatures:
        function, spec = _endpoint(name, graph, request)
        archive.add_endpoint(name, function, input_signature=[spec])
    archive.write_out(str(path), verbose=False)
    folder = path / "assets.extra"
    folder.mkdir()
    folder.joinpath("metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def _endpoint(name: str, graph: ExportGraph, request: ExportRequest) -> tuple[Callable, Any]:
    """The function of a signature and what it takes."""
    if name == "features":
        return lambda images: graph.features(images, training=False), request.spec
    if name == "serve":
        return lambda images: graph.network(images, training=False), request.spec
    return _bytes_endpoint(graph, request)


def _bytes_endpoint(graph: ExportGraph, request: ExportRequest) -> tuple[Callable, Any]:
    """Encoded images of any size to the outputs; what normalises is in the network or behind it."""
    import tensorflow as tf

    preparation = request.inputs.preparation
    crop = Preprocessor.of(preparation.without_normalization(), name="crop")
    mean, std = (tf.constant(values, tf.float32) for values in request.inputs.normalization)

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        starts = [tf.strings.substr(encoded, 0, len(kind)) == kind for kind in _KINDS]
        check = tf.debugging.Assert(tf.reduce_any(starts), [_NOT_DECODED])
        with tf.control_dependencies([check]):
            # As PIL decodes; the default trades exactness for speed.
            image = tf.cond(
                tf.io.is_jpeg(encoded),
                lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
                lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
            )
        return crop(tf.ensure_shape(image, (None, None, 3)))

    def serve_bytes(encoded: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec((*preparation.size, 3), tf.float32)
        with tf.control_dependencies([tf.debugging.Assert(tf.size(encoded) > 0, [_NONE])]):
            images = tf.map_fn(decode, encoded, fn_output_signature=spec)
        if request.normalizes:
            images = tf.cast(tf.round(images), tf.uint8)
        else:
            images = (images / 255 - mean) / std
        return graph.network(images, training=False)

    return serve_bytes, tf.TensorSpec((request.shape[0],), tf.string, name="jpeg")


_NO_INT8 = "a SavedModel holds what Keras computes, and Keras has no int8 convolutions; use "

SAVED_MODEL = Format(
    name="saved_model",
    suffix="",
    packages={"tensorflow": "tensorflow"},
    refused={
        "int8": _NO_INT8 + "litert, onnx or openvino",
        "int8-dynamic": _NO_INT8 + "litert or onnx",
    },
    tolerances={"float32": 1e-5, **LOSSY},
    signatures=SIGNATURES,
    lowered_by_keras=True,
    resizes=True,
    write=write,
    load=verify.load_saved_model,
)
