"""int8: which layers it leaves alone, and how they are known again in an exported graph.

Post-training quantisation: weights get a scale for each output channel, activations one for each
tensor, from the ranges that they have on representative images. LiteRT's converter and ONNX
Runtime's quantizer do the work; `formats` says how.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

import keras

from keras_resnets.checks import require
from keras_resnets.graph.walk import flat_layers
from keras_resnets.names import early_layers

PREPROCESSING = {"normalize", "preprocess"}  # Layers in front of the network.


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
        isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given),
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
