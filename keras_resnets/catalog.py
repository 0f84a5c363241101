"""The families' tables merged: models by name, their published checkpoints, and what they cost."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
from collections.abc import Iterable
from typing import Any

import keras

from keras_resnets.checks import nearest, require_flag
from keras_resnets.graph.macs import count_macs
from keras_resnets.models import (
    clip,
    hybrid,
    pruned,
    res2net,
    resnest,
    resnet,
    resnetv2,
    resnext,
    rexnet,
    sknet,
)
from keras_resnets.models.variant import Variant
from keras_resnets.weights import published as published
from keras_resnets.weights.published import Pretrained

FAMILIES = {
    "ResNet": resnet,
    "Pruned ResNet": pruned,
    "ResNetV2": resnetv2,
    "ResNeXt": resnext,
    "SKNet": sknet,
    "ResNeSt": resnest,
    "Res2Net": res2net,
    "ReXNet": rexnet,
    "Hybrid": hybrid,
    "CLIP": clip,
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

# Architectures that timm has, too, and publishes no checkpoint of.
UNPUBLISHED = {
    *("resnet50t", "resnet200", "rexnetr_100", "rexnetr_130", "rexnetr_150"),
    *("seresnet18", "seresnet34", "seresnet50t", "seresnet101", "seresnet152"),
    *("seresnet200d", "seresnet269d"),
    *("ecaresnet200d", "ecaresnext26t_32x4d", "ecaresnext50t_32x4d", "resnetaa34d"),
    *("resnetblur18", "resnetblur50d", "resnetblur101d"),
    *("skresnet50", "skresnet50d", "resnet50_mlp", "resnetv2_50d", "resnetv2_50t"),
    *("resnetv2_101d", "resnetv2_152", "resnetv2_152d"),
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


def find_variant(name: str, *, received: str = "") -> Variant:
    """The variant of a name: timm's, ours, or the paper's.

    Args:
        name: of the architecture, without a tag.
        received: what the user gave, for the message, where `name` is a part of it.

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
    hint = nearest(name, table, most=3) or "See list_models(). "
    raise ValueError(
        f"name must be one of list_models(). {hint}Received: name={(received or name)!r}"
    )


def find_tagged(name: str) -> tuple[Variant, Pretrained | None]:
    """The variant of a name and, if the name ends in a tag (`"resnest50d.in1k"`), its checkpoint.

    Raises:
        TypeError: if the name is not a string.
        ValueError: if there is no such variant or no such tag; the message suggests the nearest.
    """
    if not isinstance(name, str) or "." not in name:
        return find_variant(name), None
    architecture, _, tag = name.partition(".")
    variant = find_variant(architecture, received=name)
    return variant, published.find(variant.name, tag.lower())


def is_known(name: str) -> bool:
    """Whether an architecture is called so."""
    return name in _by_any_name() or name.lower() in _by_any_name()


def in_timm(variant: Variant) -> bool:
    """Whether timm builds the same network by the same name."""
    theirs = (checkpoint.training is None for checkpoint in variant.pretrained.values())
    return variant.name in UNPUBLISHED or any(theirs)


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of the architectures, or of their published checkpoints, sorted.

    Args:
        pattern: with the wildcards `*` and `?`, as for files.
        pretrained: True lists every published checkpoint, `"architecture.tag"`; the pattern then
            matches the whole name or the architecture's.

    Returns:
        The names that `create_model` takes, in timm's spelling.

    Raises:
        TypeError: if the pattern is not a string.
        ValueError: if `pretrained` is not True or False.

    Example:

    >>> keras_resnets.list_models("resnest*e")
    ['resnest101e', 'resnest200e', 'resnest269e']
    >>> keras_resnets.list_models("resnest*e", pretrained=True)
    ['resnest101e.in1k', 'resnest200e.in1k', 'resnest269e.in1k']
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a string, such as 'res*'. Received: pattern={pattern!r}")
    require_flag(pretrained=pretrained)
    pattern = pattern.lower()
    architectures = {variant.name: variant for variant in variants().values()}
    if not pretrained:
        return sorted(fnmatch.filter(architectures, pattern))
    return sorted(
        checkpoint.name
        for architecture, variant in architectures.items()
        for checkpoint in variant.pretrained.values()
        if fnmatch.fnmatchcase(architecture, pattern)
        or fnmatch.fnmatchcase(checkpoint.name, pattern)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What `model_info` knows of a model; prints as a table.

    Attributes:
        builder: the public name of the function that builds it.
        name: timm's name, or one in timm's manner.
        family: the family that it belongs to.
        parameters: number of trainable parameters, with the default number of classes.
        macs: multiply-accumulates of convolutions and dense layers for one image.
        image_size: side of the square image that `macs` is for.
        classes: the default number of classes.
        config: the variant's configuration.
        pretrained: its published checkpoints, or the one that was asked for.
    """

    builder: str
    name: str
    family: str
    parameters: int
    macs: int
    image_size: int
    classes: int
    config: str
    pretrained: tuple[Pretrained, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {"pretrained": [checkpoint.as_dict() for checkpoint in self.pretrained]}

    def facts(self) -> list[str]:
        """What there is to say of the architecture, as lines."""
        facts = {
            "name": self.name,
            "builder": f"keras_resnets.{self.builder}",
            "family": self.family,
            "parameters": f"{self.parameters:,}",
            "MACs": f"{self.macs:,} at {self.image_size}x{self.image_size}",
            "classes": str(self.classes),
            "config": self.config,
        }
        if not self.pretrained:
            facts["weights"] = "none published"
        return _aligned(list(facts.items()))

    def __str__(self) -> str:
        table = ["", *checkpoint_table(self.pretrained)] if self.pretrained else []
        return "\n".join([*self.facts(), *table])


def checkpoint_table(checkpoints: Iterable[Pretrained]) -> list[str]:
    """Published checkpoints as lines of text, the heading first."""
    rows = [("weights", "top-1", "at", "licence", "note", "origin")]
    for checkpoint in checkpoints:
        notes = (
            '"imagenet"' if checkpoint.imagenet else "",
            checkpoint.caution,
            "no classifier" if checkpoint.classes == 0 else "",
            f"{checkpoint.classes} classes" if checkpoint.classes not in (0, 1000) else "",
            f"{checkpoint.dataset}, comes along" if checkpoint.training else "",
        )
        rows.append(
            (
                checkpoint.name,
                "" if checkpoint.top1 is None else f"{checkpoint.top1:.2f}",
                str(checkpoint.results_size or ""),
                checkpoint.license,
                ", ".join(filter(None, notes)),
                checkpoint.origin_url,
            )
        )
    return _aligned(rows)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of texts as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def model_info(name: str) -> ModelInfo:
    """What a model is, what it costs, and which checkpoints of it are published.

    Parameters and multiply-accumulates are counted, not looked up: the model is built with random
    weights. For most that takes a second or two; the largest, ResNeXt-101 32x32d, takes some twenty
    seconds and 2 GB of memory.

    Args:
        name: as for `create_model`. With a tag it tells of that checkpoint only.

    Returns:
        A `ModelInfo`: print it, look at its attributes, or take `as_dict()` for JSON. Accuracies
        are those that timm reports for ImageNet-1k, or of weights that come along those that we
        measured; the licences are the authors'.

    Raises:
        TypeError: if the name is not a string.
        ValueError: if there is no such variant or tag; the message suggests the nearest.

    Example:

    >>> info = keras_resnets.model_info("resnest50d")
    >>> info.parameters, info.macs, info.image_size
    (27483240, 5371160576, 224)
    >>> [(checkpoint.tag, checkpoint.top1) for checkpoint in info.pretrained]
    [('in1k', 80.958)]
    """
    variant, checkpoint = find_tagged(name)
    builder, family = origin(variant)
    image_size = variant.config.image_size
    parameters, macs = _costs(variant, image_size)
    return ModelInfo(
        builder=builder,
        name=variant.name,
        family=family,
        parameters=parameters,
        macs=macs,
        image_size=image_size,
        classes=variant.classes,
        config=repr(variant.config),
        pretrained=tuple(variant.pretrained.values()) if checkpoint is None else (checkpoint,),
    )


def origin(variant: Variant) -> tuple[str, str]:
    """A variant's public name and its family's."""
    return next(
        (name, family)
        for family, module in FAMILIES.items()
        for name in module.__all__
        if getattr(module, name) == variant
    )


@functools.cache
def _costs(variant: Variant, image_size: int) -> tuple[int, int]:
    return costs(variant(weights=None), (image_size, image_size))


def costs(model: keras.Model, image_size: tuple[int, int]) -> tuple[int, int]:
    """Trainable parameters of a model, and multiply-accumulates for one image."""
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return parameters, count_macs(model, (*image_size, model.input_shape[-1]))
