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

# How the files begin that `serve_bytes` decodes.
_JPEG, _PNG, _GIF, _WEBP = b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF"
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
        begins = {
            start: tf.strings.substr(encoded, 0, len(start)) == start
            for start in (_JPEG, _PNG, _GIF, _WEBP)
        }
        check = tf.debugging.Assert(tf.reduce_any(list(begins.values())), [_NOT_DECODED])
        with tf.control_dependencies([check]):
            image = tf.case(
                [
                    (begins[_JPEG], lambda: _decode_jpeg(encoded)),
                    (begins[_PNG], lambda: _decode_png(encoded)),
                ],
                default=lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
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


def _decode_jpeg(encoded: Any) -> Any:
    """RGB as PIL decodes it; TensorFlow's default trades exactness for speed."""
    import tensorflow as tf

    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_png(encoded: Any) -> Any:
    """RGB of 8 bits, rounded from 16, as `layers.preprocessor.read_image` has it."""
    import tensorflow as tf

    levels = tf.io.decode_png(encoded, channels=3, dtype=tf.uint16)  # 255 becomes 65535.
    return tf.cast((tf.cast(levels, tf.int32) + 128) // 257, tf.uint8)


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
