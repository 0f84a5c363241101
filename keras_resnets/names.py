"""The naming contract: a layer is named after its module in the PyTorch checkpoint.

Families write the dotted module path, `"layer1.0.conv2"`, and the layer is called
`"layer1_0_conv2"`. So one rule loads every checkpoint, and saved files rest on it. Everything that
reads a layer's name is here: its module, block, stage and level, whether it is part of the head,
and whether int8 leaves it alone. `tests/test_names.py` reads the names of all variants with it.

A prefix, which tells two backbones in one model apart, is a path in front of all others; a layer's
name begins with `keras_name(prefix)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Components of module paths that have an underscore of their own, by the networks in timm that have
# them. None may be a sequence of modules in another network, as "conv.dw" would be.
_UNDERSCORED = (
    # ReXNet's blocks.
    *("conv_exp", "conv_dw", "conv_pwl"),
    # Selective kernels.
    *("fc_reduce", "fc_select"),
    # ByobNet's blocks, and their attention: global context, bilinear, lambda layers.
    *("conv1_1x1", "conv1_kxk", "conv2_1x1", "conv2_kxk", "conv2b_kxk", "conv3_1x1", "attn_last"),
    *("conv_attn", "mlp_add", "mlp_scale", "conv_p", "conv_q", "conv_lambda", "norm_q", "norm_v"),
    # The attention pooling of CLIP.
    *("q_proj", "k_proj", "v_proj", "c_proj"),
    # ByobNet's last convolution, and its hidden layer in front of the classifier.
    *("final_conv", "pre_logits"),
    # Transformers on top of a ResNet.
    *("patch_embed", "norm_pre", "fc_norm"),
)
_SPLIT = re.compile(
    rf"(?<![^.])(?:{'|'.join(name.replace('_', '[.]') for name in _UNDERSCORED)})(?![^.])"
)

# Stages and blocks as timm's networks have them: the ResNets `layer1.0`, ReXNet `features.3`, in
# which both are the same, ResNetV2 `stages.0.blocks.1`, ByobNet `stages.0.1`, transformers
# `blocks.2`.
_STAGE = re.compile(r"(?:stem|layer\d+|features_\d+|stages_\d+|blocks_\d+)(?=_|$)")
_BLOCK = re.compile(r"(.*(?:layer\d+_\d+|features_\d+|stages_\d+_(?:blocks_)?\d+|blocks_\d+))_")
_LEVEL = re.compile(r"(.*)(P\d)")

# The classifier and what stands only in front of it, at the top of a checkpoint.
_HEADS = ("fc", "head")
# The classifier by itself; CLIP's is a projection.
CLASSIFIERS = ("fc", "head.fc", "head.proj")

# A layer that ReXNet alone has, and the parts of it that int8 would harm most.
_REXNET = "features_0_conv_dw_conv"
_EARLY = ("stem_", "features_0_", "features_1_")


def keras_name(path: str) -> str:
    """Layer name of a dotted module path. Keras refuses `/`, and its torch backend `.`."""
    return path.replace(".", "_")


def module_path(layer_name: str) -> str:
    """The dotted path of a layer's module in PyTorch: `keras_name` backwards, without a prefix.

    An underscore is a dot, except in the components that have one of their own. A family with
    further ones adds them to the table above; the tests send every module of every variant there
    and back.

    Example:

    >>> module_path("features_3_conv_dw_bn")
    'features.3.conv_dw.bn'
    """
    return _SPLIT.sub(lambda found: found[0].replace(".", "_"), layer_name.replace("_", "."))


def block_of(layer_name: str) -> str | None:
    """The block that a layer is part of, with the prefix: `"layer3_2"` of `"layer3_2_conv1"`."""
    found = _BLOCK.match(layer_name)
    return found and found[1]


def stage_of(layer_name: str, prefix: str = "") -> str | None:
    """The stage that a layer of a backbone is part of: `"layer3"` of `"layer3_2_conv1"`.

    In ReXNet it is the stem or a block.
    """
    prefix = keras_name(prefix)
    found = layer_name.startswith(prefix) and _STAGE.match(layer_name, len(prefix))
    return found[0] if found else None


def is_part_of(layer_name: str, path: str) -> bool:
    """Whether a layer is, or is within, what a path names: a module, a block or a stage."""
    name = keras_name(path)
    return layer_name == name or layer_name.startswith(f"{name}_")


def in_head(layer_name: str, prefix: str = "") -> bool:
    """Whether a layer is the classifier, or stands only in front of it."""
    return any(is_part_of(layer_name, prefix + head) for head in _HEADS)


def is_classifier(layer_name: str, prefix: str = "") -> bool:
    """Whether a layer is the classifier itself."""
    return any(layer_name == keras_name(prefix + path) for path in CLASSIFIERS)


def level_name(level: str, prefix: str = "") -> str:
    """Name of the layer that marks a level of the feature pyramid, `"P1"` to `"P5"`."""
    return keras_name(prefix + level)


def level_of(layer_name: str) -> tuple[str, str] | None:
    """Prefix and level of a name that `level_name` made; None for other names."""
    found = _LEVEL.fullmatch(layer_name)
    return (found[1], found[2]) if found else None


def early_layers(layer_names: Iterable[str]) -> list[str]:
    """The names of ReXNet's stem and first two blocks, which int8 leaves alone; else none."""
    names = list(layer_names)
    prefixes = {name.removesuffix(_REXNET) for name in names if name.endswith(_REXNET)}
    early = tuple(prefix + part for prefix in prefixes for part in _EARLY)
    return [name for name in names if name.startswith(early)]
