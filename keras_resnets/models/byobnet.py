"""The skeleton of timm's ByobNet, which the hybrids and CLIP's image towers share.

Its networks are residual networks of `residual.py` whose modules have other names: `stem.conv1`,
`stages.0.0.conv2_kxk.conv`. Their stems are rows of 3x3 convolutions, and what halves the
resolution behind the stem is a pool or one more convolution. Source: timm, `byobnet.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import ClassVar

from keras import KerasTensor

from keras_resnets.checks import require, require_count, require_ratio
from keras_resnets.models import blocks
from keras_resnets.models.residual import (
    Antialias,
    Attention,
    Block,
    BlockContext,
    ResidualConfig,
    Shortcut,
    Stem,
    StemPool,
)


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """1x1, 3x3, 1x1 residual block: (N, H, W, C) -> (N, H / s, W / s, expansion * planes).

    Attributes:
        expansion: output channels by those of the 3x3 convolution.
        group_size: channels of a group of the 3x3 convolution; 0 for one group of all.
        convolutions: 3x3 convolutions in a row, 1 or 2.
    """

    expansion: int = 4
    group_size: int = 0
    convolutions: int = 1

    def __post_init__(self) -> None:
        require_count(expansion=self.expansion, convolutions=self.convolutions)
        require(
            self.convolutions <= 2, "convolutions must be 1 or 2", convolutions=self.convolutions
        )

    def __call__(
        self, x: KerasTensor, planes: int, context: BlockContext, config: ByobConfig, name: str
    ) -> KerasTensor:
        groups = planes // self.group_size if self.group_size else 1
        y = blocks.conv_norm(
            x, planes, 1, norm=config.norm, activation=config.act, name=f"{name}.conv1_1x1"
        )
        y = spatial_conv(y, planes, context, config, groups=groups, name=f"{name}.conv2_kxk")
        if self.convolutions == 2:
            y = blocks.conv_norm(
                y,
                planes,
                3,
                dilation=context.dilation,
                groups=groups,
                norm=config.norm,
                activation=config.act,
                name=f"{name}.conv2b_kxk",
            )
        if config.attention is not None:
            y = config.attention(y, config, f"{name}.attn")
        return block_end(y, x, self.expansion * planes, context, config, name, "conv3_1x1")


def edge(
    x: KerasTensor, planes: int, context: BlockContext, config: ByobConfig, name: str
) -> KerasTensor:
    """3x3, 1x1 residual block: (N, H, W, C) -> (N, H / stride, W / stride, planes)."""
    y = spatial_conv(x, planes, context, config, name=f"{name}.conv1_kxk")
    if config.attention is not None:
        y = config.attention(y, config, f"{name}.attn")
    return block_end(y, x, planes, context, config, name, "conv2_1x1")


def spatial_conv(
    x: KerasTensor,
    filters: int,
    context: BlockContext,
    config: ByobConfig,
    *,
    groups: int = 1,
    name: str,
) -> KerasTensor:
    """The 3x3 convolution that has the stride, or leaves it to the anti-aliasing filter behind."""
    filtered = config.antialias is not None and context.stride > 1
    x = blocks.conv_norm(
        x,
        filters,
        3,
        1 if filtered else context.stride,
        dilation=context.first_dilation,
        groups=groups,
        norm=config.norm,
        name=name,
    )
    x = blocks.drop_block(x, context.drop_block, context.drop_block_size, name=f"{name}.drop")
    x = blocks.act(x, config.act, name=f"{name}.act")
    return config.antialias(x, context.stride, f"{name}.aa") if filtered else x


def block_end(
    y: KerasTensor,
    x: KerasTensor,
    filters: int,
    context: BlockContext,
    config: ByobConfig,
    name: str,
    conv: str,
) -> KerasTensor:
    """A block's last 1x1 convolution, whose norm starts at zero, the shortcut and the activation.

    A block that would halve the resolution has a projection even where an `output_stride` keeps
    the resolution and the channels are the same.
    """
    gamma = config.last_gamma
    y = blocks.conv_norm(y, filters, 1, norm=config.norm, gamma=gamma, name=f"{name}.{conv}")
    if config.residual:
        y = blocks.drop_path(y, context.drop_path, name=f"{name}.drop_path")
        if context.begins_resolution or x.shape[-1] != filters:
            x = config.shortcut(x, filters, context, config, f"{name}.shortcut")
        y = blocks.add([y, x], name=f"{name}.add")
    return blocks.act(y, config.act, name=f"{name}.act")


# Shortcuts ---------------------------------------------------------------------------------------


def projection(
    x: KerasTensor, filters: int, context: BlockContext, config: ByobConfig, name: str
) -> KerasTensor:
    """1x1 convolution and norm."""
    return blocks.conv_norm(x, filters, 1, context.stride, norm=config.norm, name=name)


def pooled_projection(
    x: KerasTensor, filters: int, context: BlockContext, config: ByobConfig, name: str
) -> KerasTensor:
    """2x2 average, then 1x1 convolution and norm.

    Where a dilation replaced the stride, timm looks at the dilation of the stage before.
    """
    before = dataclasses.replace(context, dilation=context.first_dilation)
    x = blocks.shortcut_average(x, before, name=f"{name}.pool")
    return blocks.conv_norm(x, filters, 1, norm=config.norm, name=f"{name}.conv")


# Stems and their pools ---------------------------------------------------------------------------


def deep_stem(x: KerasTensor, config: ByobConfig, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths w, w, 2w."""
    return stem_convs(x, config, prefix, blocks.deep_stem_widths(config.stem_width))


def tiered_stem(x: KerasTensor, config: ByobConfig, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths 3w/4, w, 2w."""
    return stem_convs(x, config, prefix, blocks.tiered_stem_widths(config.stem_width))


def stem_convs(
    x: KerasTensor, config: ByobConfig, prefix: str, widths: Collection[int], *, bare: int = 0
) -> KerasTensor:
    """3x3 convolutions with norm and activation, the first of stride 2; `bare` ones without."""
    for i, width in enumerate(widths):
        name, stride = f"{prefix}stem.conv{i + 1}", 1 if i or config.small_inputs else 2
        if i < bare:
            x = blocks.conv(x, width, 3, stride, name=name)
        else:
            x = blocks.conv_norm(
                x, width, 3, stride, norm=config.norm, activation=config.act, name=name
            )
    return x


def max_pool(x: KerasTensor, config: ByobConfig, name: str) -> KerasTensor:
    """3x3 maximum, stride 2."""
    return blocks.max_pool(x, config, f"{name}.pool")


def average_pool(x: KerasTensor, config: ByobConfig, name: str) -> KerasTensor:
    """2x2 average, stride 2, that leaves out an odd border."""
    return blocks.average_stem_pool(x, config, f"{name}.pool")


# Configuration -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ByobConfig(ResidualConfig):
    """Numbers and parts of such a network.

    Attributes:
        block: a `Bottleneck`, `edge`, or another of their shape.
        attention: `squeeze_excite`, another of its shape, or None: behind a block's 3x3.
        attention_ratio: squeezed by expanded width of squeeze-excite.
        antialias: `average_blur`, another of its shape, or None: what takes the stride of a 3x3
            convolution.
    """

    block: Block = Bottleneck()
    stem: Stem = deep_stem
    stem_width: int = 32
    stem_pool: StemPool = max_pool
    shortcut: Shortcut = projection
    attention: Attention | None = None
    attention_ratio: float = 1 / 16
    antialias: Antialias | None = None

    head: ClassVar[str] = "head."
    stem_pool_name: ClassVar[str] = "stem"

    def __post_init__(self) -> None:
        for field in ("attention", "antialias"):
            value = getattr(self, field)
            require(
                value is None or callable(value),
                f"{field} must be a function or None",
                **{field: value},
            )
        require_ratio(attention_ratio=self.attention_ratio)
        super().__post_init__()
        for planes, block in zip(self.planes, self.stage_blocks(), strict=True):
            size = getattr(block, "group_size", 0)
            require(
                not size or planes % size == 0,
                "group_size must divide the planes of its stages",
                group_size=size,
                planes=self.planes,
            )

    def stage_blocks(self) -> list[Block]:
        """The block of each stage."""
        return [self.block] * len(self.depths)

    def block_at(self, stage: int, index: int) -> Block:
        return self.stage_blocks()[stage - 1]

    def block_name(self, stage: int, index: int) -> str:
        return f"stages.{stage - 1}.{index}"

    def normalised_channels(self) -> Collection[int]:
        expanded = {
            planes * getattr(block, "expansion", 1)
            for planes, block in zip(self.planes, self.stage_blocks(), strict=True)
        }
        return {*self.planes, *expanded}
