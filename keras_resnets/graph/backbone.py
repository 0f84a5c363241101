"""Finding the backbone of this package in a model, also in one that it is nested in."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from keras_resnets.checks import require
from keras_resnets.names import keras_name, level_of


def level_layers(model: keras.Model) -> dict[str, dict[str, keras.layers.Layer]]:
    """The layers of a model's own graph that mark the levels of a backbone.

    Returns:
        Layers by prefix and level: `{"left_": {"P1": ..., "P2": ...}}`.
    """
    found: dict[str, dict[str, keras.layers.Layer]] = {}
    for layer in model.layers:
        named = level_of(layer.name)
        # A layer of one's own may have such a name; none of ours does more than mark.
        if named and isinstance(layer, keras.layers.Identity):
            prefix, level = named
            found.setdefault(prefix, {})[level] = layer
    return found


def find_backbone(model: keras.Model, prefix: str = "") -> keras.Model:
    """The model in whose own graph a backbone is: this one, or the only one nested in it.

    Args:
        model: a model that a backbone is part of, or nested in at any depth.
        prefix: the one that the backbone was built with.

    Raises:
        ValueError: if no backbone has this prefix, or several that are nested. The message names
            them and says how to pass one.
    """
    require(isinstance(prefix, str), "prefix must be a string", prefix=prefix)
    name = keras_name(prefix)
    if name in level_layers(model):
        return model
    nested = dict(nested_models(model))
    backbones = {path: inner for path, inner in nested.items() if name in level_layers(inner)}
    prefixes = {found for inner in (model, *nested.values()) for found in level_layers(inner)}
    require(
        bool(backbones),
        "prefix must be that of a backbone in the model "
        f"(found: {', '.join(map(repr, sorted(prefixes))) or 'none built by keras_resnets'})",
        prefix=prefix,
        model=model.name,
    )
    require(
        len(backbones) == 1,
        "model must have one backbone of this prefix nested in it; pass the one that is meant: "
        + " or ".join(backbones),
        prefix=prefix,
        model=model.name,
    )
    return next(iter(backbones.values()))


def path_to(model: keras.Model, inner: keras.Model) -> str:
    """How to reach a nested model: `"model.get_layer('resnet50')"`."""
    return next(path for path, nested in nested_models(model) if nested is inner)


def nested_models(model: keras.Model) -> Iterator[tuple[str, keras.Model]]:
    """The models in a model at any depth, each once, with how to reach them from `model`."""
    seen: set[int] = set()

    def walk(outer: keras.Model, path: str) -> Iterator[tuple[str, keras.Model]]:
        for layer in outer.layers:
            if isinstance(layer, keras.Model) and id(layer) not in seen:
                seen.add(id(layer))
                inner = f"{path}.get_layer({layer.name!r})"
                yield inner, layer
                yield from walk(layer, inner)

    return walk(model, "model")
