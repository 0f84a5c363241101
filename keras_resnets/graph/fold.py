"""Folding batch norms into the layers in front of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnets.checks import require
from keras_resnets.layers import GroupedConv2D

# Exactly these classes: a subclass may do more to its kernel than convolve with it.
_FOLDS_INTO = (layers.Conv2D, GroupedConv2D, layers.DepthwiseConv2D, layers.Dense)


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """An equal model for inference, without batch norms.

    At inference a batch norm multiplies each channel by a number and adds another. Both can be
    moved into the convolution or dense layer in front of it: `kernel * s` and
    `(bias - mean) * s + beta` with `s = gamma / sqrt(variance + epsilon)`, computed in float64.

    Every other layer keeps its name, its configuration and its weights, so `feature_pyramid` and
    `grad_cam` work on the result. It shares nothing with `model`, which stays as it is. What it
    returns is for inference: the running statistics are gone.

    Args:
        model: a functional or sequential `keras.Model`, of this package or not; models nested in it
            are folded too.

    Returns:
        A functional `keras.Model` with the inputs, outputs and name of `model`.

    Raises:
        ValueError: if the model is neither functional nor sequential, or has a batch norm that
            does not stand alone behind a linear `Conv2D`, `GroupedConv2D`, `DepthwiseConv2D` or
            `Dense`. The message names the layer and says why.

    Example:

    >>> model = keras_resnets.ResNet50(weights=None)
    >>> folded = keras_resnets.fold_batch_norms(model)
    >>> model.count_params() - folded.count_params()  # Four a channel become one, the bias.
    79680

    Source:
        Ioffe and Szegedy, arXiv:1502.03167, algorithm 2, step 11: the norm at inference.
    """
    graph = _graph(model)
    norms = dict(_foldable(graph))
    hosts = {host.name for host in norms.values()}

    def clone(layer: layers.Layer) -> layers.Layer:
        if isinstance(layer, keras.Model):
            return fold_batch_norms(layer)
        config = layer.get_config()
        if layer.name in hosts:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in norms else layer(*args, **kwargs)

    folded = keras.models.clone_model(
        graph, input_tensors=_fresh_inputs(graph), clone_function=clone, call_function=call
    )
    norm_of = {host.name: graph.get_layer(norm) for norm, host in norms.items()}
    for layer in folded.layers:
        if isinstance(layer, keras.Model):
            continue
        original = graph.get_layer(layer.name)
        if layer.name in norm_of:
            layer.set_weights(_folded_weights(original, norm_of[layer.name]))
        else:
            layer.set_weights(original.get_weights())
    return folded


def _graph(model: keras.Model) -> keras.Model:
    """The model's graph as a functional model without an optimizer; it shares the layers."""
    sequential = isinstance(model, keras.Sequential) and model.built
    require(
        sequential or (isinstance(model, keras.Model) and hasattr(model, "operations")),
        "model must be a functional or a built sequential keras.Model",
        model=model,
    )
    # A sequential model does not say in its configuration what is connected to what.
    ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
    return keras.Model(*ends, name=model.name)


def _fresh_inputs(graph: keras.Model) -> Any:
    """Inputs in the model's structure, under the names of its own (clone_model gives others)."""
    names = {
        id(layer.output): layer.name
        for layer in graph.layers
        if isinstance(layer, layers.InputLayer)
    }
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=names[id(x)]), graph.input
    )


def _foldable(graph: keras.Model) -> Iterator[tuple[str, layers.Layer]]:
    """Each batch norm's name and the layer that it folds into; raises for one that cannot be."""
    config = graph.get_config()
    calls = {entry["name"]: entry["inbound_nodes"] for entry in config["layers"]}
    readers = Counter(
        name for nodes in (*calls.values(), config["output_layers"]) for name in _sources(nodes)
    )
    for norm in graph.layers:
        if not isinstance(norm, layers.BatchNormalization):
            continue
        (source, *_) = _sources(calls[norm.name])
        host = graph.get_layer(source)
        refusal = _refusal(norm, host)
        if len(calls[norm.name]) > 1:
            refusal = "it is called more than once"
        elif len(calls[source]) > 1:
            refusal = f"{source!r} is called more than once"
        elif refusal is None and readers[source] > 1:
            refusal = f"the output of {source!r} is used elsewhere, too"
        if refusal:
            raise ValueError(
                "every batch norm must stand alone behind a linear convolution or dense layer, "
                f"to be folded into it. Received: {norm.name!r} in the model {graph.name!r}, but "
                f"{refusal}."
            )
        yield norm.name, host


def _refusal(norm: layers.BatchNormalization, host: layers.Layer) -> str | None:
    """Why a norm cannot be folded into the layer whose output it reads, if so."""
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


def _sources(value: Any) -> Iterator[str]:
    """The layers whose outputs are mentioned in a part of a model's configuration."""
    if isinstance(value, dict):
        if "keras_history" in value:
            yield value["keras_history"][0]
        else:
            yield from _sources(list(value.values()))
    elif isinstance(value, (list, tuple)):
        # Outputs of a model are written [layer, call, index].
        if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
            yield value[0]
        else:
            for item in value:
                yield from _sources(item)


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
