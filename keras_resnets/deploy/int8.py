"""int8: what it is calibrated with, which layers it leaves alone, and who computes it.

Post-training quantisation: weights get a scale for each output channel, activations one for each
tensor, from the ranges that they have on representative images. LiteRT's converter and ONNX
Runtime's quantizer do the work.
"""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnets.checks import require
from keras_resnets.graph.walk import flat_layers
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.names import early_layers

MOST_SAMPLES = 128  # Of a data set; ranges hardly change with more images.
CALIBRATION_BATCH = 8
PREPROCESSING = {"normalize", "preprocess"}  # Layers in front of the network.


# Representative images ---------------------------------------------------------------------------


def representative(
    data: Any,
    *,
    precision: str,
    shape: tuple[int | None, ...],
    uint8: bool,
    preprocessing: Preprocessor,
) -> np.ndarray | None:
    """Images as they go into the exported file; None if none are given and none are needed.

    Args:
        data: an array of images, or what `training.data.load` takes, of which it is at most
            `MOST_SAMPLES` images of the training split, drawn at random.
        precision: of the export.
        shape: of the images that go in, with the batch.
        uint8: whether they are uint8 RGB; otherwise they are normalised.
        preprocessing: resizes and normalises.

    Raises:
        ValueError: if int8 has no data, or the images are of another shape or range.
    """
    if data is None:
        require(
            precision != "int8",
            "data must be representative images for int8, which takes the ranges of activations "
            "from them: an array, or a data set such as 'folder:PATH'",
            data=data,
        )
        return None
    if not (hasattr(data, "shape") and hasattr(data, "dtype")):
        data = _from_data_set(data, preprocessing)
    images = _checked_images(np.asarray(data), shape, uint8, preprocessing)
    if images.dtype == np.uint8 and not uint8:
        images = normalized(images, preprocessing)
    return images


def normalized(rgb: np.ndarray, preprocessing: Preprocessor) -> np.ndarray:
    """uint8 RGB to the values that a model expects, by the definition."""
    mean, std = (np.float32(values) for values in (preprocessing.mean, preprocessing.std))
    return (rgb.astype("float32") / 255 - mean) / std


def _from_data_set(spec: Any, preprocessing: Preprocessor) -> np.ndarray:
    """uint8 RGB images of a data set's training split, resized and cropped."""
    from keras_resnets.training import data, images

    height, width = preprocessing.size
    require(height == width, "images of a data set become squares", image_size=(height, width))

    def crop(example):
        decoded = images.decode(example["image"])
        return images.centre_crop(
            decoded, height, preprocessing.crop_pct, preprocessing.interpolation
        )

    source = data.load(spec, "train").source
    rows = source.shuffled(0, 0, (0, 1)).take(min(source.count, MOST_SAMPLES))
    return np.stack(list(rows.map(crop).as_numpy_iterator())).round().astype("uint8")


def _checked_images(
    images: np.ndarray, shape: tuple[int | None, ...], uint8: bool, preprocessing: Preprocessor
) -> np.ndarray:
    wanted = ", ".join("any" if side is None else str(side) for side in ("images", *shape[1:]))
    require(
        images.ndim == 4
        and len(images) >= (shape[0] or 1)
        and all(
            side in (None, given) for side, given in zip(shape[1:], images.shape[1:], strict=True)
        ),
        f"data must be images ({wanted})"
        + (f", at least a batch of {shape[0]}" if (shape[0] or 1) > 1 else ""),
        shape=images.shape,
    )
    if images.dtype == np.uint8:
        require(
            uint8 or images.shape[-1] == 3,
            "data must be float images as the model takes them, where they are not RGB",
            shape=images.shape,
        )
        return images
    require(
        not uint8,
        "data must be uint8 RGB, which is what goes into a file with preprocessing",
        dtype=str(images.dtype),
    )
    require(images.dtype.kind == "f", "data must be uint8 or float", dtype=str(images.dtype))
    images = images.astype("float32")
    low, high = float(images.min()), float(images.max())
    require(bool(np.isfinite(images).all()), "data must be finite", smallest=low, largest=high)
    if images.shape[-1] == 3:
        mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
        lowest, highest = (-mean / std).min(), ((1 - mean) / std).max()
        room = (highest - lowest) / 20
        # Values of a hundredth of the range are those of another scale, too: 0 to 1 for 0 to 255.
        require(
            lowest - room <= low
            and high <= highest + room
            and high - low > (highest - lowest) / 100,
            f"data must be in the model's range, {lowest:.2f} to {highest:.2f} for RGB values 0 to "
            "255, and not all the same; uint8 images are normalised here",
            smallest=low,
            largest=high,
        )
    return images


def batches(images: np.ndarray, batch: int | None) -> Iterator[np.ndarray]:
    """Images in batches of the size that a file is fixed to; what is left over is left out."""
    size = batch or min(CALIBRATION_BATCH, len(images))
    for start in range(0, len(images) - size + 1, size):
        yield images[start : start + size]


# Layers that stay in float -----------------------------------------------------------------------


def default_keep_float(model: keras.Model) -> tuple[str, ...]:
    """Layers that int8 leaves alone unless told otherwise: of ReXNet, the stem and two blocks.

    They are a small part of the weights. `tests/test_quantize.py` holds networks of all families to
    their accuracy in float with this default.
    """
    return tuple(early_layers(layer.name for layer in flat_layers(model)))


def checked_keep_float(
    model: keras.Model, precision: str, given: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the layers that stay in float: the default, or those that patterns name."""
    if given is None:
        return default_keep_float(model) if precision == "int8" else ()
    require(
        isinstance(given, (list, tuple)) and all(isinstance(each, str) for each in given),
        "keep_float must be a list of names of layers",
        keep_float=given,
    )
    require(
        not given or precision == "int8",
        "keep_float is for the precision 'int8'",
        keep_float=given,
        precision=precision,
    )
    names = [layer.name for layer in flat_layers(model)]
    found = set()
    for pattern in given:
        matches = fnmatch.filter(names, pattern)
        require(
            bool(matches),
            "keep_float must name layers of the model, with * and ? for what varies; see "
            "quantize.sensitivity for those that matter",
            keep_float=pattern,
        )
        found.update(matches)
    with_weights = {layer.name for layer in flat_layers(model) if hasattr(layer, "kernel")}
    require(
        not found or bool(with_weights - found),
        "keep_float must leave a layer with weights to int8; for none, use precision='float32'",
        keep_float=given,
    )
    return tuple(name for name in names if name in found)


def layers_in(name: str) -> set[str]:
    """The layers that an operator of an exported graph was made from, by its name.

    Names are paths of scopes, `"resnet50_1/layer1_0_conv1_1/convolution"`, a scope being a layer's
    name and a number; those of fused operators are joined by semicolons.
    """
    return {re.sub(r"_\d+$", "", scope) for scope in re.split("[;/]", name)}


# LiteRT ------------------------------------------------------------------------------------------


def litert_with_floats(converter: Callable[[], Any], keep_float: Iterable[str]) -> bytes:
    """An int8 `.tflite` file in which the operators of some layers compute in float.

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
        found = schema.ModelT.InitFromPackedBuf(debugger.calibrated_model, 0)
        operators = list(_litert_operators(found))
        denied = [name for name, made_from in operators if made_from & kept]
        require(
            len(denied) < len(operators),
            "keep_float must leave an operator to int8; a convolution and the activation that "
            "follows it are one",
            keep_float=keep_float,
        )
        debugger.options = tools.QuantizationDebugOptions(denylisted_nodes=denied)
        return debugger.get_nondebug_quantized_model()


def _litert_operators(model: Any) -> Iterator[tuple[str, set[str]]]:
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


# ONNX --------------------------------------------------------------------------------------------


def onnx_layers(node: Any) -> set[str]:
    """The layers that a node was made from.

    tf2onnx renames a convolution that takes in the padding in front of it, but not its kernel.
    """
    named = node.op_type != "Conv" or "/" in node.name
    return layers_in(node.name if named else node.input[1])


def onnx_static(
    path: Path,
    images: np.ndarray,
    keep_float: Iterable[str] = (),
    *,
    only: Iterable[str] | None = None,
    target: Path | None = None,
    cache: Path | None = None,
) -> None:
    """Quantizes weights and activations of an `.onnx` file.

    uint8 activations and int8 weights is what ONNX Runtime and OpenVINO are fast at on x86.

    Args:
        path: the file.
        images: what to calibrate with, as they go into it.
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
        nodes_to_quantize=only and [n.name for n in graph.node if onnx_layers(n) & set(only)],
        nodes_to_exclude=[node.name for node in graph.node if onnx_layers(node) & kept],
        calibration_cache_path=cache,
    )


def onnx_dynamic(path: Path) -> None:
    """Quantizes the weights of an `.onnx` file; activations are scaled as they come."""
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
