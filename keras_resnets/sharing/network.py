"""Which network a model is: the one that is named, or an error that says where it differs.

A folder states a network by its name. So a model is compared with the network of that name, layer
by layer, before anything is written: what is read back is what was there.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from itertools import filterfalse
from typing import Any

import keras

from keras_resnets import catalog
from keras_resnets.checks import as_plain, listed, require
from keras_resnets.graph.features import feature_levels
from keras_resnets.graph.walk import flat_layers, require_functional
from keras_resnets.layers import DropBlock2D, DropPath
from keras_resnets.models.variant import Variant
from keras_resnets.names import in_head, is_classifier, keras_name, module_path

# What changes while a model trains and leaves what it computes afterwards alone.
_WHILE_TRAINING = (
    DropPath,
    DropBlock2D,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)

# Of a layer's configuration, what is about training, or about this copy of the layer.
_UNCOMPARED = ("name", "trainable", "dtype", "momentum", "synchronized", "seed")
_UNCOMPARED_ENDINGS = ("_initializer", "_regularizer", "_constraint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network as a folder states it.

    Attributes:
        variant: its architecture.
        arguments: what it is built with that the architecture's name does not tell.
        classes: outputs of its classifier; 0 for none.
        channels: of the images.
        levels: stride and channels of each level of its feature pyramid.
        parameters: trainable ones.
        macs: multiply-accumulates for one image of `image_size`.
        image_size: `(height, width)`.
        classifier: module path of the classifier; None for none.
        stem: module path of the first convolution.
        in_timm: whether timm builds the same network by the architecture's name.
    """

    variant: Variant
    arguments: Mapping[str, Any]
    classes: int
    channels: int
    levels: Mapping[str, tuple[int, int]]
    parameters: int
    macs: int
    image_size: tuple[int, int]
    classifier: str | None
    stem: str
    in_timm: bool

    @property
    def attends(self) -> bool:
        """Whether it has learned positions, for images of one size."""
        return bool(self.classes) and getattr(self.variant.config, "attention_pooling", False)

    @property
    def embeds(self) -> bool:
        """Whether its outputs are an embedding instead of classes."""
        config = self.variant.config
        return config.embeds and self.classes in (0, self.variant.classes)


def described(
    variant: Variant,
    arguments: Mapping[str, Any],
    classes: int,
    channels: int,
    image_size: tuple[int, int] | None = None,
) -> tuple[Network, keras.Model]:
    """A network, and a model of it with random weights that ends in logits.

    Args:
        variant: its architecture.
        arguments: what it is built with beside its name.
        classes: of its classifier; 0 for none: the model returns the pooled features.
        channels: of the images.
        image_size: to count for; default: the usual of the architecture.
    """
    top = dict(classes=classes) if classes else dict(include_top=False, pooling="avg")
    model = variant(
        weights=None,
        input_shape=(None, None, channels),
        **{**top, "classifier_activation": None, **arguments},
    )
    side = variant.config.image_size
    image_size = image_size or (side, side)
    parameters, macs = catalog.costs(model, image_size)
    layers = list(flat_layers(model))
    heads = [layer.name for layer in layers if is_classifier(layer.name)]
    levels = feature_levels(model)
    network = Network(
        variant=variant,
        arguments=arguments,
        classes=classes,
        channels=channels,
        levels={name: (level.stride, level.channels) for name, level in levels.items()},
        parameters=parameters,
        macs=macs,
        image_size=image_size,
        classifier=module_path(heads[0]) if heads else None,
        stem=module_path(next(each.name for each in layers if _is_convolution(each))),
        in_timm=catalog.in_timm(variant)
        and not arguments
        and (bool(classes) or not _has_hidden_head(variant)),
    )
    return network, model


def identified(
    model: keras.Model,
    architecture: str | None,
    arguments: Mapping[str, Any] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Network:
    """The network that a model is.

    Args:
        model: of this package, perhaps with layers of its own in front of the network, and an
            activation behind it.
        architecture: which network it is; default: the model's name.
        arguments: fields of the architecture's configuration that it was built with.
        image_size: to count multiply-accumulates for.

    Raises:
        ValueError: if the model is another network. The message says where it differs.
        TypeError: if `model` is no model, or a name of `arguments` is no argument.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "model must be a keras.Model, or what names one: an architecture.tag, the folder of a "
            f"run, a file. Received: model={type(model).__name__}"
        )
    functional = require_functional(model, images=True, one_output=True)
    require(
        architecture is not None or catalog.is_known(model.name),
        "architecture must be named where the model's own name is none",
        model=model.name,
        architecture=architecture,
    )
    variant = catalog.find_variant(model.name if architecture is None else architecture)
    arguments = as_plain(dict(arguments or {}))
    try:
        arguments = json.loads(json.dumps(arguments))
    except TypeError as error:
        raise ValueError(
            "config_changes must be what JSON holds, numbers, names and lists; a network of other "
            f"parts can be written by save_safetensors ({error}). "
            f"Received: config_changes={arguments!r}"
        ) from error
    own = {layer.name: layer for layer in flat_layers(functional)}
    heads = [layer for name, layer in own.items() if is_classifier(name)]
    classes = heads[0].units if heads and isinstance(heads[0], keras.layers.Dense) else 0
    pool = own.get(keras_name(f"{variant.config.head}global_pool"))
    if isinstance(pool, keras.layers.GlobalMaxPooling2D):
        arguments |= {"pooling": "max"}
    channels = functional.input_shape[-1]
    network, reference = described(variant, arguments, classes, channels, image_size)
    stride = _last_stride(functional)
    if stride in (8, 16) and stride < _last_stride(reference):
        arguments |= {"output_stride": stride}
        network, reference = described(variant, arguments, classes, channels, image_size)
    _compare(functional, reference, variant, arguments)
    return network


def _last_stride(model: keras.Model) -> int | None:
    try:
        return max(level.stride for level in feature_levels(model).values())
    except ValueError:  # It has no levels; what it lacks is listed below.
        return None


def _compare(
    model: keras.Model, reference: keras.Model, variant: Variant, arguments: Mapping[str, Any]
) -> None:
    """Raises a ValueError unless a model computes what its reference would with its weights."""
    wanted = _compared(reference)
    own = list(flat_layers(model))
    pool = keras_name(f"{variant.config.head}global_pool")
    if not any(map(is_classifier, wanted)) and all(layer.name != pool for layer in own):
        wanted.pop(pool, None)  # A backbone may return its feature map; it is read back pooled.
    found = {name: layer for name, layer in _compared(model).items() if name in wanted}
    differences = [
        f"{name}: {key}={ours.get(key)!r}, not {theirs.get(key)!r}"
        for name, layer in found.items()
        for ours, theirs in [(_configuration(layer), _configuration(wanted[name]))]
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    ]
    # In front of the network anything may prepare images; behind it stands an activation at most.
    inside = itertools.dropwhile(lambda layer: layer.name not in wanted, own)
    strangers = [*(layer for layer in own if layer.weights), *filterfalse(_only_ends, inside)]
    extra = dict.fromkeys(
        layer.name
        for layer in strangers
        if layer.name not in wanted and not isinstance(layer, _WHILE_TRAINING)
    )
    missing = [name for name in wanted if name not in found]
    sides = {
        "only in the model": extra,
        "only in the architecture": missing,
        "different": differences,
    }
    with_arguments = f" with {dict(arguments)}" if arguments else ""
    require(
        not any(sides.values()),
        f"model must be the network {variant.name!r}{with_arguments}; name another architecture, "
        "or pass the fields of the configuration that it was built with as config_changes",
        model=model.name,
        **{key.replace(" ", "_"): listed(names, most=6) for key, names in sides.items() if names},
    )


def _compared(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers of a model that make what it computes."""
    passed = (*_WHILE_TRAINING, keras.layers.InputLayer)
    return {layer.name: layer for layer in flat_layers(model) if not isinstance(layer, passed)}


def _only_ends(layer: keras.layers.Layer) -> bool:
    """Whether a layer makes probabilities of logits, or nothing."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation.__name__ in ("softmax", "sigmoid", "linear")
    return isinstance(layer, (keras.layers.Softmax, keras.layers.Identity, keras.layers.InputLayer))


def _configuration(layer: keras.layers.Layer) -> dict[str, Any]:
    """What of a layer's configuration decides what it computes, and its class."""
    config = {
        key: as_plain(value)
        for key, value in layer.get_config().items()
        if key not in _UNCOMPARED and not key.endswith(_UNCOMPARED_ENDINGS)
    }
    if is_classifier(layer.name):
        config.pop("activation", None)  # Logits or probabilities: the weights are the same.
    return {"class": type(layer).__name__, **config}


def _is_convolution(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Conv2D)


def _has_hidden_head(variant: Variant) -> bool:
    """Whether layers with weights stand between the backbone and the classifier.

    timm keeps them where it builds a network without classes; here they go with the top.
    """
    layers = flat_layers(variant(weights=None, classes=1))
    return any(
        layer.weights and in_head(layer.name) and not is_classifier(layer.name) for layer in layers
    )
