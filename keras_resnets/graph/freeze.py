"""Keeping the first part of a network as it is while the rest is trained."""

from __future__ import annotations

import re

import keras

from keras_resnets.checks import require


def freeze(model: keras.Model, until: str, prefix: str = "") -> list[str]:
    """Freezes a model up to and including a stage: weights and batch-norm statistics.

    Frozen batch norms run in inference mode even while the rest trains, so that their moving
    statistics stay as they are, bit by bit: statistics that follow a small data set are what makes
    fine-tuning fail. Call it before `compile`. Dropping layers in the frozen part still drop.

    Args:
        model: a functional model built by this package, also a loaded one.
        until: a stage (`"layer3"`; `"stem"` or `"features_7"` in ReXNet), a level of the feature
            pyramid (`"P3"`; see `feature_levels`), or the beginning of a layer's name at an
            underscore. Everything that its output is computed from is frozen with it.
        prefix: the one that the backbone was built with.

    Returns:
        Names of the frozen layers that have weights, in the graph's order.

    Raises:
        ValueError: if the model has no such stage; the message lists what it has.

    Example:

    >>> model = keras_resnets.ResNet50(weights=None, classes=5)
    >>> frozen = keras_resnets.freeze(model, until="layer3")
    >>> frozen[0], frozen[-1]
    ('conv1', 'layer3_5_bn3')
    """
    require(
        isinstance(model, keras.Model) and hasattr(model, "operations"),
        "model must be a functional keras.Model",
        model=model,
    )
    require(isinstance(prefix, str), "prefix must be a string", prefix=prefix)
    prefix = prefix.replace(".", "_")
    names = [layer.name for layer in model.layers]
    wanted = f"{prefix}{until}".replace(".", "_") if isinstance(until, str) else None
    last = [name for name in names if name == wanted or name.startswith(f"{wanted}_")]
    require(
        bool(until) and len(last) > 0,
        f"until must be one of {', '.join(_stages(names, prefix))}, or begin a layer's name",
        until=until,
        model=model.name,
    )
    frozen = _with_all_before(model, set(last))
    for layer in model.layers:
        if layer.name in frozen:
            layer.trainable = False
    return [layer.name for layer in model.layers if layer.name in frozen and layer.weights]


def _with_all_before(model: keras.Model, names: set[str]) -> set[str]:
    """Names of some operations and of all that their outputs are computed from."""
    producers = {
        id(tensor): operation
        for operation in model.operations
        for tensor in keras.tree.flatten(operation.output)
    }
    waiting = [operation for operation in model.operations if operation.name in names]
    found = set()
    while waiting:
        operation = waiting.pop()
        if operation.name in found:
            continue
        found.add(operation.name)
        if isinstance(operation, keras.layers.InputLayer):
            continue
        for tensor in keras.tree.flatten(operation.input):
            if id(tensor) in producers:
                waiting.append(producers[id(tensor)])
    return found


def _stages(names: list[str], prefix: str) -> list[str]:
    """What can be named: stages in the graph's order, then levels of the pyramid."""
    own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    heads = (re.match(r"stem|layer\d+|features_\d+", name) for name in own)
    stages = dict.fromkeys(match[0] for match in heads if match)
    levels = dict.fromkeys(name for name in own if re.fullmatch(r"P\d", name))
    return [*stages, *levels]
