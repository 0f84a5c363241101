"""ONNX: an `.onnx` file, for ONNX Runtime and whatever else reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnets.deploy import verify
from keras_resnets.deploy.formats.format import LOSSY, ExportRequest, Format
from keras_resnets.deploy.images import batches
from keras_resnets.deploy.int8 import PREPROCESSING, layers_in
from keras_resnets.deploy.prepare import ExportGraph

OPSET = 17
IR_VERSION = 8  # What this opset asks for; runtimes refuse newer ones than they know.
PACKAGES = {"onnx": "onnx", "onnxruntime": "onnxruntime", "tf2onnx": "tf2onnx"}


def write(graph: ExportGraph, request: ExportRequest, path: Path, metadata: dict[str, Any]) -> None:
    """Writes a file; metadata is in `metadata_props`, an entry a key."""
    import onnx

    graph.network.export(
        str(path), format="onnx", input_signature=[request.spec], opset_version=OPSET, verbose=False
    )
    if request.precision == "float16":
        _to_float16(path)
    elif request.precision == "int8":
        quantize_static(path, request.samples.calibration, request.keep_float)
    elif request.precision == "int8-dynamic":
        quantize_dynamic(path)
    model = onnx.load(path)
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.save(model, path)


def _to_float16(path: Path) -> None:
    """Casts weights and computation of a file; images and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    half = OnnxModel(convert_float_to_float16(onnx.load(path), keep_io_types=True))
    half.topological_sort()  # The casts of inputs are put at the end.
    onnx.save(half.model, path)


# int8 --------------------------------------------------------------------------------------------


def layers_of(node: Any) -> set[str]:
    """The layers that a node was made from.

    tf2onnx renames a convolution that takes in the padding in front of it, but not its kernel.
    """
    named = node.op_type != "Conv" or "/" in node.name
    return layers_in(node.name if named else node.input[1])


def quantize_static(
    path: Path,
    images: np.ndarray,
    keep_float: Iterable[str] = (),
    *,
    only: Iterable[str] | None = None,
    target: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Quantizes weights and activations of a file.

    uint8 activations and int8 weights is what ONNX Runtime and OpenVINO are fast at on x86.

    Args:
        path: the file.
        images: what to calibrate with, as they go into the file.
        keep_float: layers whose operators stay.
        only: quantize operators of these layers and no others.
        target: the new file; default: `path`.
        cache: file that keeps the ranges, or has them already.
    """
    import onnx
    from onnxruntime import quantization

    graph = onnx.load(path).graph
    shape = [side.dim_value or None for side in graph.input[0].type.tensor_type.shape.dim]
    reader = _Reader(graph.input[0].name, batches(images, shape[0]))
    # Preprocessing sees the 256 levels of an image before it is scaled to int8's own.
    kept = PREPROCESSING | set(keep_float)
    quantization.quantize_static(
        path,
        target or path,
        reader,
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_quantize=only
        and [node.name for node in graph.node if layers_of(node) & set(only)],
        nodes_to_exclude=[node.name for node in graph.node if layers_of(node) & kept],
        calibration_cache_path=cache,
    )


def quantize_dynamic(path: Path) -> None:
    """Quantizes the weights of a file; activations are scaled as they come."""
    from onnxruntime import quantization

    quantization.quantize_dynamic(
        path,
        path,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["Conv", "MatMul"],
    )


class _Reader:
    """Batches of images, the way that ONNX Runtime's calibration asks for them."""

    def __init__(self, name: str, images: Iterator[np.ndarray]) -> None:
        self._rows = ({name: batch} for batch in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


ONNX = Format(
    name="onnx",
    suffix=".onnx",
    packages={"tensorflow": "tensorflow", **PACKAGES},
    refused={
        "bfloat16": "ONNX Runtime has no bfloat16 convolutions for CPUs, so the file could not be "
        "verified; use float16"
    },
    tolerances={"float32": 1e-4, **LOSSY},
    oldest_runtimes={
        **dict.fromkeys(("float32", "float16", "int8"), "1.15"),  # The oldest that was tried.
        "int8-dynamic": "1.24",  # The first with ConvInteger for int8 weights on CPUs.
    },
    write=write,
    load=verify.load_onnx,
)
