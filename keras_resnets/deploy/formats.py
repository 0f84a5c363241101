"""Writing a prepared network in each format, and what each format cannot hold."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnets.checks import require, require_one_of
from keras_resnets.deploy import int8, metadata
from keras_resnets.deploy.prepare import ExportGraph
from keras_resnets.layers.preprocessor import Preprocessor

PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int8-dynamic")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is to be written.

    Attributes:
        precision: of weights and computation.
        shape: of the images, with the batch.
        keep_float: names of layers that an int8 precision leaves alone.
        signatures: of a SavedModel.
        preprocessing: what `serve_bytes` does to decoded images.
        normalizes: whether the network normalises uint8 images by itself.
        samples: images as they go into the file, to calibrate int8 with.
        metadata: what to write in the file.
    """

    precision: str
    shape: tuple[int | None, ...]
    keep_float: tuple[str, ...]
    signatures: tuple[str, ...]
    preprocessing: Preprocessor
    normalizes: bool
    samples: np.ndarray | None
    metadata: dict[str, Any]

    @property
    def spec(self) -> keras.InputSpec:
        """Shape, type and name of the images, for Keras' exporters."""
        dtype = "uint8" if self.normalizes else "float32"
        return keras.InputSpec(shape=self.shape, dtype=dtype, name="image")


def write_saved_model(prepared: ExportGraph, request: ExportRequest, path: Path) -> None:
    """A folder with one endpoint a signature."""
    archive = keras.export.ExportArchive()
    archive.track(prepared.network)
    for name in request.signatures:
        function, spec = _endpoint(name, prepared, request)
        archive.add_endpoint(name, function, input_signature=[spec])
    archive.write_out(str(path), verbose=False)
    metadata.write_saved_model(path, request.metadata)


def _endpoint(name: str, prepared: ExportGraph, request: ExportRequest) -> tuple[Callable, Any]:
    """The function of a signature and what it takes."""
    import tensorflow as tf

    if name == "features":
        return lambda images: prepared.features(images, training=False), request.spec
    if name == "serve":
        return lambda images: prepared.network(images, training=False), request.spec

    # Images of any size to that of the model. What normalises is in the network or behind it here.
    preprocessing = request.preprocessing
    crop = Preprocessor.from_config(
        preprocessing.get_config() | {"mean": [0.0] * 3, "std": [1 / 255] * 3, "name": "crop"}
    )
    mean, std = (
        tf.constant(values, tf.float32) for values in (preprocessing.mean, preprocessing.std)
    )

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        # As PIL decodes; the default trades exactness for speed.
        image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
        return crop(image)

    def serve_bytes(encoded: tf.Tensor) -> tf.Tensor:
        spec = tf.TensorSpec((*preprocessing.size, 3), tf.float32)
        images = tf.map_fn(decode, encoded, fn_output_signature=spec)
        if request.normalizes:
            images = tf.cast(tf.round(images), tf.uint8)
        else:
            images = (images / 255 - mean) / std
        return prepared.network(images, training=False)

    return serve_bytes, tf.TensorSpec((request.shape[0],), tf.string, name="jpeg")


def write_litert(prepared: ExportGraph, request: ExportRequest, path: Path) -> None:
    """A `.tflite` file of builtin operators; conversion fails if there is another one."""
    import tensorflow as tf

    folder = path.with_suffix(".saved_model")
    prepared.network.export(
        str(folder), format="tf_saved_model", input_signature=[request.spec], verbose=False
    )

    def converter() -> tf.lite.TFLiteConverter:
        new = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        new.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if request.precision != "float32":
            new.optimizations = [tf.lite.Optimize.DEFAULT]
        if request.precision == "float16":
            new.target_spec.supported_types = [tf.float16]
        if request.precision == "int8":
            # Float operators too: for preprocessing, and for what is kept.
            new.target_spec.supported_ops.insert(0, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
            new.representative_dataset = lambda: (
                [batch] for batch in int8.batches(request.samples, request.shape[0])
            )
        return new

    if request.precision == "int8" and request.keep_float:
        content = int8.litert_with_floats(converter, request.keep_float)
    else:
        content = converter().convert()
    path.write_bytes(content)
    metadata.write_litert(path, request.metadata)


def write_onnx(prepared: ExportGraph, request: ExportRequest, path: Path) -> None:
    """An `.onnx` file."""
    import onnx

    prepared.network.export(
        str(path), format="onnx", input_signature=[request.spec], opset_version=17, verbose=False
    )
    if request.precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        half = OnnxModel(convert_float_to_float16(onnx.load(path), keep_io_types=True))
        half.topological_sort()  # The casts of inputs are put at the end.
        onnx.save(half.model, path)
    elif request.precision == "int8":
        int8.onnx_static(path, request.samples, request.keep_float)
    elif request.precision == "int8-dynamic":
        int8.onnx_dynamic(path)
    metadata.write_onnx(path, request.metadata)


def write_openvino(prepared: ExportGraph, request: ExportRequest, path: Path) -> None:
    """An `.xml` file and a `.bin` file beside it.

    int8 goes by way of ONNX Runtime's quantizer, whose pairs of quantizing and dequantizing
    operators OpenVINO reads and runs in int8.
    """
    import openvino

    if request.precision == "int8":
        onnx_path = path.with_suffix(".onnx")
        write_onnx(prepared, request, onnx_path)
        model = openvino.convert_model(onnx_path)
    else:
        float_path = path.with_name(f"float-{path.name}")
        prepared.network.export(
            str(float_path), format="openvino", input_signature=[request.spec], verbose=False
        )
        # From memory, because a file that is mapped cannot be removed everywhere.
        weights = float_path.with_suffix(".bin").read_bytes()
        model = openvino.Core().read_model(float_path.read_bytes(), weights)
    for key, value in request.metadata.items():
        model.set_rt_info(json.dumps(value), ["keras_resnets", key])
    openvino.save_model(model, path, compress_to_fp16=request.precision == "float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A format that models are exported to.

    Attributes:
        suffix: what its paths end in; a folder's in nothing.
        packages: what writing and running it needs: modules by the packages that have them.
        tolerance: largest difference allowed at float32, relative to the largest output.
        refused: precisions that it cannot hold: why, and what would work.
        write: writes a prepared network.
    """

    suffix: str
    packages: dict[str, str]
    tolerance: float
    refused: dict[str, str]
    write: Callable[[ExportGraph, ExportRequest, Path], None]

    @property
    def precisions(self) -> list[str]:
        return [precision for precision in PRECISIONS if precision not in self.refused]


_ONNX_PACKAGES = {"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"}
_NO_INT8 = "a SavedModel holds what Keras computes, and Keras has no int8 convolutions; use "

FORMATS = {
    "saved_model": Format(
        suffix="",
        packages={"tensorflow": "tensorflow"},
        tolerance=1e-5,
        refused={
            "int8": _NO_INT8 + "litert, onnx or openvino",
            "int8-dynamic": _NO_INT8 + "litert or onnx",
        },
        write=write_saved_model,
    ),
    "litert": Format(
        suffix=".tflite",
        packages={"tensorflow": "tensorflow", "ai_edge_litert": "ai-edge-litert"},
        tolerance=1e-3,
        refused={
            "bfloat16": "LiteRT has no builtin operator for bfloat16 convolutions; use float16"
        },
        write=write_litert,
    ),
    "onnx": Format(
        suffix=".onnx",
        packages={"tensorflow": "tensorflow", **_ONNX_PACKAGES},
        tolerance=1e-4,
        refused={
            "bfloat16": "ONNX Runtime has no bfloat16 convolutions for CPUs, so the file could not "
            "be verified; use float16"
        },
        write=write_onnx,
    ),
    "openvino": Format(
        suffix=".xml",
        packages={"tensorflow": "tensorflow", "openvino": "openvino"},
        tolerance=1e-4,
        refused={
            "bfloat16": "OpenVINO chooses bfloat16 when it loads a float32 file, by "
            "INFERENCE_PRECISION_HINT; export float32, or float16 for a file of half the size",
            "int8-dynamic": "OpenVINO takes ONNX Runtime's dynamic operators apart into many small "
            "ones, slower than float32; use int8, or onnx",
        },
        write=write_openvino,
    ),
}


def check_packages(format: str, precision: str) -> None:
    """Raises an ImportError if a package is missing that writes or runs the format."""
    packages = dict(FORMATS[format].packages)
    if (format, precision) == ("openvino", "int8"):
        packages |= _ONNX_PACKAGES
    missing = [name for module, name in packages.items() if not importlib.util.find_spec(module)]
    if missing:
        raise ImportError(
            f"format {format!r} needs the package{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}: pip install 'keras-resnets[export]'. "
            f"Received: format={format!r}, precision={precision!r}"
        )


def check_precision(format: str, precision: str) -> None:
    """Raises a ValueError unless format and precision exist and go together."""
    require_one_of(FORMATS, format=format)
    require_one_of(PRECISIONS, precision=precision)
    reason = FORMATS[format].refused.get(precision)
    require(not reason, reason, format=format, precision=precision)
