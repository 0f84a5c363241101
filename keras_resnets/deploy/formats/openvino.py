"""OpenVINO: an `.xml` file with the graph and a `.bin` file with the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_resnets.deploy import verify
from keras_resnets.deploy.formats import onnx
from keras_resnets.deploy.formats.format import LOSSY, ExportRequest, Format
from keras_resnets.deploy.prepare import ExportGraph


def write(graph: ExportGraph, request: ExportRequest, path: Path, metadata: dict[str, Any]) -> None:
    """Writes both files; metadata is in the model's runtime information, under `keras_resnets`.

    int8 goes by way of ONNX Runtime's quantizer, whose pairs of quantizing and dequantizing
    operators OpenVINO reads and runs in int8.
    """
    import openvino

    if request.precision == "int8":
        onnx_path = path.with_suffix(".onnx")
        onnx.write(graph, request, onnx_path, metadata)
        model = openvino.convert_model(onnx_path)
    else:
        float_path = path.with_name(f"float-{path.name}")
        graph.network.export(
            str(float_path), format="openvino", input_signature=[request.spec], verbose=False
        )
        # From memory, because a file that is mapped cannot be removed everywhere.
        weights = float_path.with_suffix(".bin").read_bytes()
        model = openvino.Core().read_model(float_path.read_bytes(), weights)
    model.inputs[0].node.set_layout(openvino.Layout("NHWC"))
    for key, value in metadata.items():
        model.set_rt_info(json.dumps(value), ["keras_resnets", key])
    openvino.save_model(model, path, compress_to_fp16=request.precision == "float16")


OPENVINO = Format(
    name="openvino",
    suffix=".xml",
    companions=(".bin",),
    packages={"tensorflow": "tensorflow", "openvino": "openvino"},
    packages_for={"int8": onnx.PACKAGES},
    refused={
        "bfloat16": "OpenVINO chooses bfloat16 when it loads a float32 file, by "
        "INFERENCE_PRECISION_HINT; export float32, or float16 for a file of half the size",
        "int8-dynamic": "OpenVINO takes ONNX Runtime's dynamic operators apart into many small "
        "ones, slower than float32; use int8, or onnx",
    },
    tolerances={"float32": 1e-4, **LOSSY},
    write=write,
    load=verify.load_openvino,
)
