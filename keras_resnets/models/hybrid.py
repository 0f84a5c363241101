"""Hybrids: timm's experiments between ResNet, ResNeXt and their kin.

There is no paper; the source is timm, `byobnet.py`. 32, 33, 51 and 61 count the layers. t is the
tiered stem, q a stem of four convolutions, s the SiLU instead of the ReLU, mlp a hidden layer in
front of the classifier. Their last stages are as wide as the stage before, in the q forms with
depthwise convolutions.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras import KerasTensor, layers

from keras_resnets.checks import is_count, require
from keras_resnets.models import attention, blocks
from keras_resnets.models.byobnet import (
    Bottleneck,
    ByobConfig,
    average_pool,
    edge,
    pooled_projection,
    stem_convs,
    tiered_stem,
)
from keras_resnets.models.residual import Block
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name


def open_tiered_stem(x: KerasTensor, config: HybridConfig, prefix: str) -> KerasTensor:
    """The tiered stem without its last convolution, which has the stride: see `third_conv`."""
    return stem_convs(x, config, prefix, blocks.tiered_stem_widths(config.stem_width)[:2])


def third_conv(x: KerasTensor, config: HybridConfig, name: str) -> KerasTensor:
    """3x3 convolution of stride 2 to twice the channels instead of a pool."""
    return blocks.conv_norm(
        x, 2 * x.shape[-1], 3, 2, norm=config.norm, activation=config.act, name=f"{name}.conv3"
    )


def quad_stem(x: KerasTensor, config: HybridConfig, prefix: str) -> KerasTensor:
    """Three of four 3x3 convolutions, of widths w, 2w, 4w; the last is `fourth_conv`."""
    return stem_convs(x, config, prefix, _quad_widths(config.stem_width))


def half_bare_quad_stem(x: KerasTensor, config: HybridConfig, prefix: str) -> KerasTensor:
    """The quad stem with neither norm nor activation behind its first two convolutions."""
    return stem_convs(x, config, prefix, _quad_widths(config.stem_width), bare=2)


def _quad_widths(width: int) -> tuple[int, ...]:
    return width, 2 * width, 4 * width


def fourth_conv(x: KerasTensor, config: HybridConfig, name: str) -> KerasTensor:
    """3x3 convolution of stride 2 to twice the channels instead of a pool."""
    return blocks.conv_norm(
        x, 2 * x.shape[-1], 3, 2, norm=config.norm, activation=config.act, name=f"{name}.conv4"
    )


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class HybridConfig(ByobConfig):
    """Numbers and parts of a hybrid.

    Attributes:
        first_block: the first stage's block; default: `block`.
        last_block: the last stage's block; default: `block`.
        features: channels of a last 1x1 convolution; 0 for none.
        hidden: units of a hidden layer in front of the classifier; 0 for none.
    """

    first_block: Block | None = None
    last_block: Block | None = None
    features: int = 0
    hidden: int = 0

    def __post_init__(self) -> None:
        for field in ("first_block", "last_block"):
            value = getattr(self, field)
            require(
                value is None or callable(value),
                f"{field} must be a function or None",
                **{field: value},
            )
        for field in ("features", "hidden"):
            value = getattr(self, field)
            require(is_count(value, 0), f"{field} must be an int from 0 up", **{field: value})
        super().__post_init__()

    def stage_blocks(self) -> list[Block]:
        stages = super().stage_blocks()
        stages[0] = self.first_block or stages[0]
        stages[-1] = self.last_block or stages[-1]
        return stages

    def last_convolution(self, x: KerasTensor, prefix: str) -> KerasTensor:
        if not self.features:
            return x
        return blocks.conv_norm(
            x, self.features, 1, norm=self.norm, activation=self.act, name=f"{prefix}final_conv"
        )

    def pre_logits(self, x: KerasTensor, prefix: str) -> KerasTensor:
        if not self.hidden:
            return x
        x = self.norm(x, name=f"{prefix}head.norm")
        x = layers.Dense(self.hidden, name=keras_name(f"{prefix}head.pre_logits.fc"))(x)
        return blocks.act(x, self.act, name=f"{prefix}head.pre_logits.act")


# Variants ----------------------------------------------------------------------------------------

_TS = dict(stem=tiered_stem, act="silu")
_33 = dict(
    depths=(2, 3, 3, 2),
    planes=(64, 128, 384, 384),
    **dict(_TS, stem=open_tiered_stem, stem_pool=third_conv),
)
_Q = dict(stem_width=16, stem_pool=fourth_conv, features=2048, act="silu")
_SE = dict(attention=attention.squeeze_excite)
_GROUPS_OF_32 = Bottleneck(group_size=32)

# fmt: off
ResNet32TS = Variant("resnet32ts", HybridConfig(**_33))
ResNet33TS = Variant("resnet33ts", HybridConfig(**_33, features=1280))
SEResNet33TS = Variant("seresnet33ts", HybridConfig(**_33, features=1280, **_SE))
ResNet51Q = Variant("resnet51q", HybridConfig(
    depths=(2, 4, 6, 4), planes=(64, 128, 384, 1536), stem=half_bare_quad_stem,
    block=_GROUPS_OF_32, last_block=Bottleneck(expansion=1, group_size=1), **_Q,
))
ResNet61Q = Variant("resnet61q", HybridConfig(
    depths=(1, 4, 6, 4), planes=(256, 128, 384, 1536), stem=quad_stem, first_block=edge,
    block=Bottleneck(group_size=32, convolutions=2),
    last_block=Bottleneck(expansion=1, group_size=1, convolutions=2), **_Q,
))
ResNeXt26TS = Variant("resnext26ts", HybridConfig(depths=(2, 2, 2, 2), block=_GROUPS_OF_32, **_TS))
SEResNeXt26TS = Variant("seresnext26ts", HybridConfig(
    depths=(2, 2, 2, 2), block=_GROUPS_OF_32, **_TS, **_SE,
))
ResNet50MLP = Variant("resnet50_mlp", HybridConfig(
    depths=(3, 4, 6, 3), stem_pool=average_pool, shortcut=pooled_projection,
    antialias=blocks.average_blur, hidden=1024,
))
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
