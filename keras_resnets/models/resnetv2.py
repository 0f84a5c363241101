"""ResNetV2: norm and activation in front of each convolution, also weight-standardised (BiT).

Papers:
    He et al., Identity Mappings in Deep Residual Networks, arXiv:1603.05027.
    Kolesnikov et al., Big Transfer (BiT), arXiv:1912.11370.
    Qiao et al., Weight Standardization, arXiv:1903.10520.
    Wu and He, Group Normalization, arXiv:1803.08494.

Between the blocks nothing touches the sum: an identity runs from the stem to the last norm. Where
the shape changes, the shortcut is a convolution of the block's normalised input.

The names are timm's: d is the deep stem and the pooled shortcut, t the tiered stem and the pooled
shortcut. `50x3_bit` reads: depth 50, three times as wide, BiT: group norms, and convolutions whose
kernels are standardised.

Departures from the papers, as in timm, whose checkpoints fit: the stride of a bottleneck is on its
3x3 convolution, in BiT too. The wide ResNets for CIFAR, which are of this kind, are in `resnet.py`
under the names of their checkpoints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, ClassVar, Protocol

from keras import KerasTensor, layers

from keras_resnets.checks import require
from keras_resnets.layers import PointwiseDense, StandardizedConv2D
from keras_resnets.models import blocks
from keras_resnets.models.network import BackboneOptions
from keras_resnets.models.residual import (
    Block,
    BlockContext,
    ResidualConfig,
    Shortcut,
    Stem,
    StemPool,
    add_shortcut,
)
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name

# Convolutions ------------------------------------------------------------------------------------


class Convolution(Protocol):
    """What convolves: `blocks.conv` or `standardized_conv`, or another of their shape."""

    def __call__(
        self,
        x: KerasTensor,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        name: str,
    ) -> KerasTensor: ...


def standardized_conv(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    stride: int = 1,
    *,
    dilation: int = 1,
    name: str,
) -> KerasTensor:
    """Convolution with a kernel of zero mean and unit variance for each filter.

    Source: Qiao et al., arXiv:1903.10520, equation 5.
    """
    x, padding = blocks.padded(x, kernel_size, stride, dilation, name=name)
    return StandardizedConv2D(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer=blocks.he_normal(),
        name=keras_name(name),
    )(x)


# Blocks ------------------------------------------------------------------------------------------


def preact_bottleneck(
    x: KerasTensor, planes: int, context: BlockContext, config: ResNetV2Config, name: str
) -> KerasTensor:
    """1x1, 3x3, 1x1, each behind norm and activation: (N, H, W, C) -> (N, H / s, W / s, 4 * planes).

    Source: He et al., arXiv:1603.05027, figure 4(e) and section 4; figure 5 (right) of
    arXiv:1512.03385 for the bottleneck. The first block of a stage has a projection whatever its
    width.
    """
    y = norm_act(x, config, f"{name}.norm1")
    x = projected(x, y, 4 * planes, context, config, name, needed=context.begins_stage)
    y = config.conv(y, planes, 1, name=f"{name}.conv1")
    y = norm_act(y, config, f"{name}.norm2")
    y = config.conv(
        y, planes, 3, context.stride, dilation=context.first_dilation, name=f"{name}.conv2"
    )
    y = norm_act(y, config, f"{name}.norm3", context)
    y = config.conv(y, 4 * planes, 1, name=f"{name}.conv3")
    return add_shortcut(y, x, context.at_stride_1(), config, name)


def preact_basic(
    x: KerasTensor, planes: int, context: BlockContext, config: ResNetV2Config, name: str
) -> KerasTensor:
    """Two 3x3, each behind norm and activation: (N, H, W, C) -> (N, H / s, W / s, planes).

    Source: He et al., arXiv:1603.05027, figure 4(e).
    """
    changes = context.begins_resolution or x.shape[-1] != planes
    y = norm_act(x, config, f"{name}.norm1")
    x = projected(x, y, planes, context, config, name, needed=changes)
    y = config.conv(
        y, planes, 3, context.stride, dilation=context.first_dilation, name=f"{name}.conv1"
    )
    y = norm_act(y, config, f"{name}.norm2", context)
    y = config.conv(y, planes, 3, dilation=context.dilation, name=f"{name}.conv2")
    return add_shortcut(y, x, context.at_stride_1(), config, name)


def projected(
    x: KerasTensor,
    normalised: KerasTensor,
    filters: int,
    context: BlockContext,
    config: ResNetV2Config,
    name: str,
    *,
    needed: bool,
) -> KerasTensor:
    """The shortcut: the block's input, or a projection of what its first norm made of it."""
    if not needed or not config.residual:
        return x
    return config.shortcut(normalised, filters, context, config, f"{name}.downsample")


def norm_act(
    x: KerasTensor, config: ResNetV2Config, name: str, context: BlockContext | None = None
) -> KerasTensor:
    """Norm and activation; between them DropBlock, where a context is given."""
    x = config.norm(x, name=name)
    if context is not None:
        x = blocks.drop_block(x, context.drop_block, context.drop_block_size, name=f"{name}.drop")
    return blocks.act(x, config.act, name=f"{name}.act")


# Stems and shortcuts: without the last norm, which the next block brings along --------------------


def conv_stem(x: KerasTensor, config: ResNetV2Config, prefix: str) -> KerasTensor:
    """One 7x7 convolution of stride 2; 3x3 at stride 1 for small inputs."""
    size, stride = (3, 1) if config.small_inputs else (7, 2)
    return config.conv(x, config.stem_width, size, stride, name=f"{prefix}stem.conv")


def deep_stem(x: KerasTensor, config: ResNetV2Config, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths w, w, 2w."""
    return _three_convs(x, config, prefix, blocks.deep_stem_widths(config.stem_width))


def tiered_stem(x: KerasTensor, config: ResNetV2Config, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths 3w/4, w, 2w."""
    return _three_convs(x, config, prefix, blocks.tiered_stem_widths(config.stem_width))


def _three_convs(
    x: KerasTensor, config: ResNetV2Config, prefix: str, widths: tuple[int, ...]
) -> KerasTensor:
    stem = f"{prefix}stem"
    x = config.conv(x, widths[0], 3, 1 if config.small_inputs else 2, name=f"{stem}.conv1")
    x = config.conv(norm_act(x, config, f"{stem}.norm1"), widths[1], 3, name=f"{stem}.conv2")
    return config.conv(norm_act(x, config, f"{stem}.norm2"), widths[2], 3, name=f"{stem}.conv3")


def projection(
    x: KerasTensor, filters: int, context: BlockContext, config: ResNetV2Config, name: str
) -> KerasTensor:
    """1x1 convolution alone: its input is normalised already."""
    return config.conv(x, filters, 1, context.stride, name=f"{name}.conv")


def pooled_projection(
    x: KerasTensor, filters: int, context: BlockContext, config: ResNetV2Config, name: str
) -> KerasTensor:
    """2x2 average, then the 1x1 convolution: the d form."""
    x = blocks.shortcut_average(x, context, name=f"{name}.pool")
    return config.conv(x, filters, 1, name=f"{name}.conv")


# Configuration -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResNetV2Config(ResidualConfig):
    """Numbers and parts of a ResNetV2; its block is `preact_bottleneck` or `preact_basic`.

    Attributes:
        conv: `blocks.conv`, `standardized_conv`, or another of their shape.
    """

    block: Block = preact_bottleneck
    stem: Stem = conv_stem
    stem_pool: StemPool = blocks.signed_max_pool
    shortcut: Shortcut = projection
    conv: Convolution = blocks.conv

    head: ClassVar[str] = "head."

    def __post_init__(self) -> None:
        super().__post_init__()
        require(callable(self.conv), "conv must be a function", conv=self.conv)

    def normalised_channels(self) -> Collection[int]:
        stems = {deep_stem: blocks.deep_stem_widths, tiered_stem: blocks.tiered_stem_widths}
        *between, last = stems.get(self.stem, lambda width: (width,))(self.stem_width)
        if self.block is preact_basic:
            return {*between, last, *self.planes}
        return {*between, last, *self.planes, *(4 * planes for planes in self.planes)}

    def block_name(self, stage: int, index: int) -> str:
        return f"stages.{stage - 1}.blocks.{index}"

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        x = super().backbone(images, options)
        return norm_act(x, self, f"{options.prefix}norm")

    def classifier(
        self, classes: int, activation: str | Callable | None, name: str
    ) -> layers.Dense:
        return blocks.classifier(classes, activation, name=name, layer=PointwiseDense)


# Variants ----------------------------------------------------------------------------------------

_D = dict(stem=deep_stem, stem_width=32, shortcut=pooled_projection)
_T = dict(_D, stem=tiered_stem)
_BASIC = dict(block=preact_basic)


def _bit(depths: tuple[int, ...], width: int) -> ResNetV2Config:
    """BiT-M and its like: arXiv:1912.11370, section 3. Its max-pool sees zeros at the border."""
    return ResNetV2Config(
        depths=depths,
        planes=tuple(width * planes for planes in (64, 128, 256, 512)),
        stem_width=width * 64,
        stem_pool=blocks.zero_padded_max_pool,
        norm=blocks.group_norm,
        conv=standardized_conv,
    )


# fmt: off
ResNetV2_18 = Variant("resnetv2_18", ResNetV2Config(depths=(2, 2, 2, 2), **_BASIC))
ResNetV2_18D = Variant("resnetv2_18d", ResNetV2Config(depths=(2, 2, 2, 2), **_BASIC, **_D))
ResNetV2_34 = Variant("resnetv2_34", ResNetV2Config(depths=(3, 4, 6, 3), **_BASIC))
ResNetV2_34D = Variant("resnetv2_34d", ResNetV2Config(depths=(3, 4, 6, 3), **_BASIC, **_D))
ResNetV2_50 = Variant("resnetv2_50", ResNetV2Config(depths=(3, 4, 6, 3)))
ResNetV2_50D = Variant("resnetv2_50d", ResNetV2Config(depths=(3, 4, 6, 3), **_D))
ResNetV2_50T = Variant("resnetv2_50t", ResNetV2Config(depths=(3, 4, 6, 3), **_T))
ResNetV2_50D_GN = Variant("resnetv2_50d_gn", ResNetV2Config(depths=(3, 4, 6, 3), norm=blocks.group_norm, **_D))
ResNetV2_101 = Variant("resnetv2_101", ResNetV2Config(depths=(3, 4, 23, 3)))
ResNetV2_101D = Variant("resnetv2_101d", ResNetV2Config(depths=(3, 4, 23, 3), **_D))
ResNetV2_152 = Variant("resnetv2_152", ResNetV2Config(depths=(3, 8, 36, 3)))
ResNetV2_152D = Variant("resnetv2_152d", ResNetV2Config(depths=(3, 8, 36, 3), **_D))

ResNetV2_50x1_BiT = Variant("resnetv2_50x1_bit", _bit((3, 4, 6, 3), 1))
ResNetV2_50x3_BiT = Variant("resnetv2_50x3_bit", _bit((3, 4, 6, 3), 3))
ResNetV2_101x1_BiT = Variant("resnetv2_101x1_bit", _bit((3, 4, 23, 3), 1))
ResNetV2_101x3_BiT = Variant("resnetv2_101x3_bit", _bit((3, 4, 23, 3), 3))
ResNetV2_152x2_BiT = Variant("resnetv2_152x2_bit", _bit((3, 8, 36, 3), 2))
ResNetV2_152x4_BiT = Variant("resnetv2_152x4_bit", _bit((3, 8, 36, 3), 4))
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
