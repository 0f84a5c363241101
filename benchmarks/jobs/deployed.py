"""Exported forms of a network, each in the runtime that it is made for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from benchmarks.jobs.keras_model import build, random_images

THREADS = int(os.environ["BENCHMARK_THREADS"])
Call = Callable[[], object]


def inference(form: str, variant: str, size: int, batch: int) -> Call:
    """Exports our network, folded, for one shape of input, and prepares a call of its runtime.

    Args:
        form: a key of `RUNTIMES`.
        variant: name of the network.
        size: height and width of the images.
        batch: images a call.
    """
    import keras_resnets

    model = keras_resnets.fold_batch_norms(build("keras_resnets", variant, size, "float32"))
    images = random_images(size, batch)
    export_format, load = RUNTIMES[form]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{SUFFIXES[export_format]}"
        signature = [keras.InputSpec(dtype="float32", shape=images.shape)]
        model.export(str(path), format=export_format, input_signature=signature, verbose=False)
        return load(path, images)


def load_saved_model(path: Path, images: np.ndarray) -> Call:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    tensor = tf.constant(images)
    # Not `loaded.serve` alone: the variables live as long as the object.
    return lambda: loaded.serve(tensor).numpy()


def load_litert(path: Path, images: np.ndarray) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    # XNNPACK is what the interpreter uses for float32 unless told otherwise. The file is read into
    # memory here, because it is gone when the call is made.
    interpreter = Interpreter(model_content=path.read_bytes(), num_threads=THREADS)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def call() -> np.ndarray:
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return call


def load_onnxruntime(path: Path, images: np.ndarray) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


def load_openvino(path: Path, images: np.ndarray) -> Call:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        # Like everybody else: otherwise it takes bfloat16 where the processor has it.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    # From memory: a compiled model keeps reading a file that is mapped, and it is gone.
    model = core.read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    compiled = core.compile_model(model, "CPU", settings)
    return lambda: compiled(images)


SUFFIXES = {"tf_saved_model": "", "litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
RUNTIMES = {
    "SavedModel": ("tf_saved_model", load_saved_model),
    "LiteRT": ("litert", load_litert),
    "ONNX Runtime": ("onnx", load_onnxruntime),
    "OpenVINO": ("openvino", load_openvino),
}
"""By name: the format that Keras exports, and what loads it."""
