"""LiteRT, formerly TensorFlow Lite: a `.tflite` file, for phones and small devices."""

from __future__ import annotations

import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_resnets.checks import require
from keras_resnets.deploy import verify
from keras_resnets.deploy.formats.format import LOSSY, ExportRequest, Format
from keras_resnets.deploy.images import batches
from keras_resnets.deploy.int8 import layers_in
from keras_resnets.deploy.prepare import ExportGraph


def write(graph: ExportGraph, request: ExportRequest, path: Path, metadata: dict[str, Any]) -> None:
    """Writes a file of builtin operators; conversion fails if there is another one."""
    # Not beside the file: TensorFlow reads the path of what it loads as a pattern.
    with tempfile.TemporaryDirectory() as folder:
        graph.network.export(
            folder, format="tf_saved_model", input_signature=[request.spec], verbose=False
        )
        if request.precision == "int8" and request.keep_float:
            content = _with_floats(lambda: _converter(folder, request), request.keep_float)
        else:
            content = _converter(folder, request).convert()
    path.write_bytes(content)
    _append(path, metadata)


def _converter(folder: str, request: ExportRequest) -> Any:
    """A `TFLiteConverter` that is set to the precision."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if request.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if request.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if request.precision == "int8":
        # Float operators too: for preprocessing, and for what is kept.
        converter.target_spec.supported_ops.insert(0, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
        converter.representative_dataset = lambda: (
            [batch] for batch in batches(request.samples.calibration, request.shape[0])
        )
    return converter


def _append(path: Path, metadata: dict[str, Any]) -> None:
    """Puts a zip archive behind the model, the convention of LiteRT's associated files.

    Interpreters do not look behind the model, and `zipfile.ZipFile(path)` finds the archive.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{label}\n" for label in metadata["labels"]))
        archive.writestr("metadata.json", json.dumps(metadata, indent=2))


# Layers that stay in float -----------------------------------------------------------------------


def _with_floats(converter: Callable[[], Any], keep_float: Iterable[str]) -> bytes:
    """An int8 file in which the operators of some layers compute in float.

    The converter has no option for it. Its debugger, which compares single layers in float and
    int8, has, and hands out the model without what it added for comparing. Splits stay in int8
    with it, whatever is kept around them.
    """
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema

    tools, kept = tf.lite.experimental, set(keep_float)
    with warnings.catch_warnings():  # It still makes an interpreter by the old name.
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated.*")
        new = converter()
        debugger = tools.QuantizationDebugger(
            converter=new, debug_dataset=new.representative_dataset
        )
        calibrated = schema.ModelT.InitFromPackedBuf(debugger.calibrated_model, 0)
        operators = list(_operators(calibrated))
        denied = [name for name, made_from in operators if made_from & kept]
        require(
            len(denied) < len(operators),
            "keep_float must leave an operator to int8; a convolution and the activation that "
            "follows it are one",
            keep_float=keep_float,
        )
        debugger.options = tools.QuantizationDebugOptions(denylisted_nodes=denied)
        return debugger.get_nondebug_quantized_model()


def _operators(model: Any) -> Iterator[tuple[str, set[str]]]:
    """The name of each operator's output and the layers that it was made from.

    The last operator's output is named after the signature, so its weights are looked at, too, or
    where it has none, as a softmax, what it reads.
    """
    (graph,) = model.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    outputs = set(graph.outputs)
    for operator in graph.operators:
        layers = layers_in(names[operator.outputs[0]])
        if operator.outputs[0] in outputs:
            read = operator.inputs[1:] if len(operator.inputs) > 1 else operator.inputs
            layers = layers.union(*(layers_in(names[i]) for i in read if i >= 0))
        yield names[operator.outputs[0]], layers


LITERT = Format(
    name="litert",
    suffix=".tflite",
    packages={"tensorflow": "tensorflow", "ai_edge_litert": "ai-edge-litert"},
    refused={"bfloat16": "LiteRT has no builtin operator for bfloat16 convolutions; use float16"},
    tolerances={"float32": 1e-3, **LOSSY},
    fixed_shape=True,  # Delegates need to know.
    fixed_shape_for=("int8",),
    refuses_quantized="LiteRT's converter cannot take Keras' int8 products; export the float model "
    "with precision='int8' or 'int8-dynamic'",
    write=write,
    load=verify.load_litert,
)
