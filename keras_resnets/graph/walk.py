"""Walking a functional model's graph through Keras' public attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def flat_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models nested in it, in the graph's order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def upstream(model: keras.Model, tensor: keras.KerasTensor) -> Iterator[keras.Operation]:
    """The operations from a tensor of the model back to its image, by the first input of each.

    The first, because of a product with a gate that is the feature map.
    """
    producers = {
        id(output): operation
        for operation in model.operations
        for output in _as_list(operation.output)
    }
    while id(tensor) in producers:
        operation = producers[id(tensor)]
        inputs = _as_list(getattr(operation, "input", None))
        if not inputs or inputs[0] is tensor:
            return
        yield operation
        tensor = inputs[0]


def _as_list(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
