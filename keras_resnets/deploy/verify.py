"""Runs an exported file in a process of its own: `python verify.py JOB.json`.

Nothing here imports Keras or this package: what runs is the file and the runtime that users would
load it with. The job names the loader (a function below), the path, the images (`inputs`, an `.npz`
file with an array for each call, named `SIGNATURE/NUMBER`), where to put the outputs (the same
names), and where to put what was seen (`result`, JSON): the operators and the latency.
"""

from __future__ import annotations

import collections
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

MOST_CALLS = 30
MOST_SECONDS = 2.0

Run = Callable[[str, np.ndarray], np.ndarray]
Operators = dict[str, int]
Load = Callable[[str], tuple[Run, Operators]]


def load_saved_model(path: str) -> tuple[Run, Operators]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    run = lambda signature, images: getattr(loaded, signature)(tf.constant(images)).numpy()  # noqa: E731
    # Not of the model's making: variables and constants, and the calls of what is counted below.
    uncounted = {"Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp"}
    graph = loaded.signatures["serve"].graph.as_graph_def()
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    counts: collections.Counter = collections.Counter()

    def count(nodes: Any) -> None:
        for node in nodes:
            if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                count(functions[node.attr["f"].func.name])
            elif node.op not in uncounted:
                counts[node.op] += 1

    count(graph.node)
    return run, counts


def load_litert(path: str) -> tuple[Run, Operators]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    allocated = None

    def run(signature: str, images: np.ndarray) -> np.ndarray:
        nonlocal allocated
        if images.shape != allocated:
            if -1 in source["shape_signature"]:
                interpreter.resize_tensor_input(source["index"], images.shape)
            interpreter.allocate_tensors()
            allocated = images.shape
        interpreter.set_tensor(source["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    names = {
        value: name for name, value in vars(schema.BuiltinOperator).items() if name[0].isupper()
    }
    with open(path, "rb") as file:
        model = schema.ModelT.InitFromPackedBuf(file.read(), 0)
    # Small codes are in the older, one-byte field.
    kinds = [
        names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes
    ]
    counts = collections.Counter(
        kinds[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators
    )
    return run, counts


def load_onnx(path: str) -> tuple[Run, Operators]:
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    counts = collections.Counter(node.op_type for node in onnx.load(path).graph.node)
    return lambda signature, images: session.run(None, {name: images})[0], counts


def load_openvino(path: str) -> tuple[Run, Operators]:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    # Left alone it computes in bfloat16 where the processor has it, whatever the file says.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    counts = collections.Counter(operator.get_type_name() for operator in model.get_ordered_ops())
    uncounted = ("Constant", "Parameter", "Result")
    return lambda signature, images: compiled(images)[0], {
        kind: count for kind, count in counts.items() if kind not in uncounted
    }


LOADERS = {
    loader.__name__: loader for loader in (load_saved_model, load_litert, load_onnx, load_openvino)
}


def latency(call: Callable[[], Any]) -> float:
    """Median seconds of a call; it has been warmed up."""
    seconds: list[float] = []
    while len(seconds) < 3 or (len(seconds) < MOST_CALLS and sum(seconds) < MOST_SECONDS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main(path: str) -> None:
    """Does the job in the JSON file."""
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    run, operators = LOADERS[job["loader"]](job["path"])
    with np.load(job["inputs"]) as inputs:
        calls = dict(inputs)
    outputs = {key: run(key.partition("/")[0], images) for key, images in calls.items()}
    np.savez(job["outputs"], **outputs)
    first = calls["serve/0"]
    seen = {"operators": dict(operators), "latency": latency(lambda: run("serve", first))}
    with open(job["result"], "w", encoding="utf-8") as file:
        json.dump(seen, file)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow imports both where it finds them, and takes twice as long for it.
    sys.modules.update(dict.fromkeys(("jax", "keras")))
    main(sys.argv[1])
