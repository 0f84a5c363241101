"""Folding batch norms, and the standardisation of kernels, into convolutions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnets.checks import require_flag
from keras_resnets.graph.inference import copied, without_training_layers
from keras_resnets.graph.walk import Graph, graph_of, plain, require_functional
from keras_resnets.layers import GroupedConv2D, StandardizedConv2D

# Exactly these classes: another subclass may do more to its kernel than convolve with it.
_FOLDS_INTO = (
    layers.Conv2D,
    GroupedConv2D,
    StandardizedConv2D,
    layers.DepthwiseConv2D,
    layers.Dense,
)


def fold_batch_norms(model: keras.Model, *, strict: bool = True) -> keras.Model:
    """An equal model for inference, without batch norms.

    At inference a batch norm multiplies each channel by a number and adds another. Both can be
    moved into the convolution or dense layer in front of it: `kernel * s` and
    `(bias - mean) * s + beta` with `s = gamma / sqrt(variance + epsilon)`, computed in float64.

    A convolution that standardises its kernel becomes a plain one with the standardised kernel.
    Layers that do nothing at inference, such as dropout and augmentation, go as well. Every other
    layer keeps its name, its configuration and its weights, so `feature_pyramid` and `grad_cam`
    work on the result, which shares nothing with `model`. The result is for inference: the running
    statistics are gone.

    Args:
        model: a functional or sequential `keras.Model`, of this package or not; models nested in it
            are folded too.
        strict: False leaves the batch norms that cannot be folded, such as those in front of a
            convolution in ResNetV2.

    Returns:
        A functional `keras.Model` with the inputs, outputs and name of `model`.

    Raises:
        ValueError: if the model is neither functional nor sequential, or, being strict, has a batch
            norm that does not stand alone behind a linear `Conv2D`, `GroupedConv2D`,
            `DepthwiseConv2D` or `Dense`. The message names the layer and says why.

    Example:

    >>> model = keras_resnets.ResNet50(weights=None)
    >>> folded = keras_resnets.fold_batch_norms(model)
    >>> model.count_params() - folded.count_params()  # Four a channel become one, the bias.
    79680

    Source:
        Ioffe and Szegedy, arXiv:1502.03167, algorithm 2, step 11: the norm at inference.
    """
    require_flag(strict=strict)
    graph = plain(without_training_layers(require_functional(model)))
    norms = dict(_foldable(graph, strict=strict))
    norm_of = {host.name: norm for norm, host in norms.items()}
    standardized = {
        layer.name: layer.convolution()
        for layer in graph.layers
        if isinstance(layer, StandardizedConv2D)
    }

    def as_plain(layer: layers.Layer) -> layers.Layer:
        return standardized.get(layer.name, layer)

    def config(layer: layers.Layer) -> dict[str, Any]:
        bias = {"use_bias": True} if layer.name in norm_of else {}
        return as_plain(layer).get_config() | bias

    def weights(layer: layers.Layer) -> list[np.ndarray]:
        if layer.name not in norm_of:
            return as_plain(layer).get_weights()
        return _folded_weights(as_plain(layer), graph.get_layer(norm_of[layer.name]))

    return copied(
        graph,
        kind=lambda layer: type(as_plain(layer)),
        config=config,
        weights=weights,
        left_out=lambda layer: layer.name in norms,
        nested=functools.partial(fold_batch_norms, strict=strict),
    )


def _foldable(model: keras.Model, *, strict: bool) -> Iterator[tuple[str, layers.Layer]]:
    """Each batch norm's name and the layer that it folds into.

    Being strict, it raises for one that cannot be folded; else it passes over it.
    """
    graph = graph_of(model, opens=lambda nested: False)
    for norm in model.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        call, *more_calls = graph.calls_of(norm)
        source = graph.producers.get(id(call.inputs[0]))
        host = source and source.operation
        refusal = "it is called more than once" if more_calls else _refusal(norm, host)
        if refusal is None and len(graph.calls_of(host)) > 1:
            refusal = f"{host.name!r} is called more than once"
        if refusal is None and _is_read_elsewhere(graph, call.inputs[0]):
            refusal = f"the output of {host.name!r} is used elsewhere, too"
        if refusal and not strict:
            continue
        if refusal:
            raise ValueError(
                "every batch norm must stand alone behind a linear convolution or dense layer, "
                f"to be folded into it. Received: {norm.name!r} in the model {model.name!r}, but "
                f"{refusal}."
            )
        yield norm.name, host


def _is_read_elsewhere(graph: Graph, tensor: keras.KerasTensor) -> bool:
    """Whether more than one call reads a tensor, or the model returns it."""
    is_output = any(tensor is output for output in graph.outputs)
    return is_output or len(graph.readers[id(tensor)]) > 1


def _refusal(norm: layers.BatchNormalization, host: keras.Operation | None) -> str | None:
    """Why a norm cannot be folded into what made its input, if so; None made the model's input."""
    if host is None:
        return "its input is the model's"
    if type(host) not in _FOLDS_INTO:
        return f"its input comes from {host.name!r} ({type(host).__name__})"
    if host.activation is not keras.activations.linear:
        return f"{host.name!r} has the activation {host.activation.__name__!r}"
    if getattr(host, "quantization_mode", None):
        return f"{host.name!r} is quantized to {host.quantization_mode}"
    rank = len(host.output.shape)
    first = getattr(host, "data_format", "channels_last") == "channels_first"
    channels = 1 if first else rank - 1
    (axis,) = [norm.axis] if isinstance(norm.axis, int) else norm.axis
    if axis % rank != channels:
        return f"it normalises axis {axis} and the channels of {host.name!r} are axis {channels}"
    return None


def _folded_weights(host: layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias of a layer that includes the norm behind it."""
    kernel, *bias = (weight.astype("float64") for weight in host.get_weights())
    named = {
        weight.name: keras.ops.convert_to_numpy(weight).astype("float64") for weight in norm.weights
    }
    scale = named.get("gamma", 1.0) / np.sqrt(named["moving_variance"] + norm.epsilon)
    shift = named.get("beta", 0.0) - named["moving_mean"] * scale
    if bias:
        shift = shift + bias[0] * scale
    # Outputs are the last axis of a kernel, or the last two of a depthwise one: inputs, multiplier.
    depthwise = isinstance(host, layers.DepthwiseConv2D)
    return [kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale), shift]
