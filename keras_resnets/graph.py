"""Walking a functional model's graph through Keras' public attributes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import keras

# Keras walks a graph by recursion, one Python frame a layer, when a model is built and again when
# it is loaded, cloned or cut. ResNeSt-269 is a chain of some 2,200 layers; Python's default limit
# of 1,000 frames would stop it. Set on import, because loading a model asks for nothing more.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))


def flat_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models nested in it, in the graph's order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer
