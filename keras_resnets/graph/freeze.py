"""Keeping the first part of a network as it is while the rest is trained."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnets.checks import listed, require
from keras_resnets.graph.backbone import find_backbone, level_layers, nested_models
from keras_resnets.graph.walk import flat_layers, graph_of, require_functional
from keras_resnets.names import is_part_of, keras_name, stage_of


def freeze(model: keras.Model, until: str, prefix: str = "") -> list[str]:
    """Freezes a model up to and including a stage: weights and batch-norm statistics.

    Frozen batch norms run in inference mode even while the rest trains, so that their moving
    statistics stay as they are, bit by bit: statistics that follow a small data set are what makes
    fine-tuning fail. Call it before `compile`. Dropping layers in the frozen part still drop.

    Args:
        model: a functional or built sequential model with a backbone of this package in it, also a
            nested one, or a loaded model.
        until: a stage (`"layer3"`; `"stem"` or `"features_7"` in ReXNet), a level of the feature
            pyramid (`"P3"`; see `feature_levels`), or the beginning of a layer's name at an
            underscore. Everything that its output is computed from is frozen with it. Layers of
            the model itself go before those of a nested backbone, and the name of a nested model
            means all of it.
        prefix: the one that the backbone was built with.

    Returns:
        Names of the frozen layers that have weights, in the graph's order.

    Raises:
        ValueError: if the model has no such stage; the message lists what it has. Or if several
            backbones are nested in it; the message names them.

    Example:

    >>> model = keras_resnets.ResNet50(weights=None, classes=5)
    >>> frozen = keras_resnets.freeze(model, until="layer3")
    >>> frozen[0], frozen[-1]
    ('conv1', 'layer3_5_bn3')
    """
    model = require_functional(model)
    require(isinstance(prefix, str), "prefix must be a string", prefix=prefix)
    named = _layers_named(model, until, prefix)
    graph = graph_of(model)
    last = graph.calls_of(*named)
    require(
        len(last) > 0,
        "model must call the layers that until names outside of subclassed models",
        until=until,
        model=model.name,
    )
    frozen = graph.upstream(tensor for call in last for tensor in call.outputs)
    layers = {id(layer) for call in frozen for layer in _layers_in(call.operation)}
    unique = {id(layer): layer for layer in flat_layers(model) if id(layer) in layers}
    for layer in unique.values():
        layer.trainable = False
    return [layer.name for layer in unique.values() if layer.weights]


def _layers_in(operation: keras.Operation) -> list[keras.Operation]:
    """The layers of a model, at any depth; anything else stands for itself."""
    return list(flat_layers(operation)) if isinstance(operation, keras.Model) else [operation]


def _layers_named(model: keras.Model, until: Any, prefix: str) -> list[keras.layers.Layer]:
    """The layers that `until` names: of the model's own, or else of the backbone nested in it."""
    path = f"{prefix}{until}" if until and isinstance(until, str) else None
    found = _matching(model, path)
    if found:
        return found
    inputs = keras.layers.InputLayer
    layer_names = [layer.name for layer in model.layers if not isinstance(layer, inputs)]
    require(
        any(map(level_layers, (model, *(inner for _, inner in nested_models(model))))),
        "until must begin a layer's name, at an underscore, in a model without a backbone of "
        f"keras_resnets; its layers are {listed(layer_names)}",
        until=until,
        model=model.name,
    )
    backbone = find_backbone(model, prefix)
    found = _matching(backbone, path)
    require(
        len(found) > 0,
        f"until must be one of {', '.join(_stages(backbone, prefix))}, or begin a layer's name",
        until=until,
        model=model.name,
    )
    return found


def _matching(model: keras.Model, path: str | None) -> list[keras.layers.Layer]:
    """The layers of a model's own graph within a path, with the layers of models among them."""
    matching = [layer for layer in model.layers if path and is_part_of(layer.name, path)]
    return [*matching, *(inner for layer in matching for inner in _layers_in(layer))]


def _stages(backbone: keras.Model, prefix: str) -> list[str]:
    """What can be named: stages in the graph's order, then levels of the pyramid."""
    stages = (stage_of(layer.name, prefix) for layer in backbone.layers)
    levels = sorted(level_layers(backbone)[keras_name(prefix)])
    return [*dict.fromkeys(filter(None, stages)), *levels]
