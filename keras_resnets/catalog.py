"""The families' tables merged: models by name."""

from __future__ import annotations

import difflib
import fnmatch
import functools
from typing import Any

import keras

from keras_resnets import res2net, resnest, resnet, resnext, rexnet
from keras_resnets.variant import Variant

FAMILIES = {
    "ResNet": resnet,
    "ResNeXt": resnext,
    "ResNeSt": resnest,
    "Res2Net": res2net,
    "ReXNet": rexnet,
}

# Names that papers and authors' repositories use where timm and we use another.
_ALIASES = {
    "res2net50_v1b_26w_4s": "res2net50d",
    "res2net101_v1b_26w_4s": "res2net101d",
    "res2next50_4s": "res2next50",
    "resnest50_fast_1s1x64d": "resnest50d_1s1x64d",
    "resnest50_fast_2s1x64d": "resnest50d_2s1x64d",
    "resnest50_fast_4s1x64d": "resnest50d_4s1x64d",
    "resnest50_fast_1s2x40d": "resnest50d_1s2x40d",
    "resnest50_fast_2s2x40d": "resnest50d_2s2x40d",
    "resnest50_fast_4s2x40d": "resnest50d_4s2x40d",
    "resnest50_fast_1s4x24d": "resnest50d_1s4x24d",
}


@functools.cache
def variants() -> dict[str, Variant]:
    """All variants under their public name (`"ResNeSt50"`), in the families' order."""
    return {name: getattr(family, name) for family in FAMILIES.values() for name in family.__all__}


@functools.cache
def _by_any_name() -> dict[str, Variant]:
    table = {}
    for public_name, variant in variants().items():
        table[variant.name] = table[public_name] = table[public_name.lower()] = variant
    return table | {alias: table[name] for alias, name in _ALIASES.items()}


def find_variant(name: str) -> Variant:
    """The variant of a name: timm's, ours, or the paper's.

    Raises:
        TypeError: if the name is not a string.
        ValueError: if there is no such variant; the message suggests the nearest names.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, such as 'resnest50d'. Received: name={name!r}")
    table = _by_any_name()
    if name in table:
        return table[name]
    if name.lower() in table:
        return table[name.lower()]
    near = difflib.get_close_matches(name.lower(), table, n=3)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "See list_models()."
    raise ValueError(f"name must be one of list_models(). {hint} Received: name={name!r}")


def create_model(name: str, /, **arguments: Any) -> keras.Model:
    """Builds a model by its name.

    Args:
        name: timm's name (`"resnest50d"`), ours (`"ResNeSt50"`), or a name of the authors'
            repositories (`"resnest50_fast_4s2x40d"`). Upper and lower case are one.
        **arguments: those of every variant, see `help(keras_resnets.Variant)`; a `name` among
            them is the model's own.

    Returns:
        A `keras.Model` of images `(batch, height, width, channels)`; see `Variant`.

    Raises:
        ValueError: if there is no such variant, or for an argument's sake.
        TypeError: for an unknown argument.

    Example:

    >>> keras_resnets.create_model("resnest50d", weights=None, classes=10).output_shape
    (None, 10)
    """
    return find_variant(name)(**arguments)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the architectures, sorted.

    Args:
        pattern: with the wildcards `*` and `?`, as for files.

    Returns:
        The names that `create_model` takes, in timm's spelling.

    Raises:
        TypeError: if the pattern is not a string.

    Example:

    >>> keras_resnets.list_models("resnest*e")
    ['resnest101e', 'resnest200e', 'resnest269e']
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a string, such as 'res*'. Received: pattern={pattern!r}")
    names = sorted(variant.name for variant in variants().values())
    return [name for name in names if fnmatch.fnmatchcase(name, pattern.lower())]
