"""ResNet: plain, in c, d, s and t forms, wide, with attention, anti-aliased, RS, and for CIFAR.

Papers:
    He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385.
    He et al., Bag of Tricks for Image Classification with CNNs, arXiv:1812.01187 (c and d forms).
    Zagoruyko and Komodakis, Wide Residual Networks, arXiv:1605.07146.
    Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507.
    Wang et al., ECA-Net: Efficient Channel Attention, arXiv:1910.03151.
    Zhang, Making Convolutional Networks Shift-Invariant Again, arXiv:1904.11486 (blur).
    Bello et al., Revisiting ResNets, arXiv:2103.07579 (RS).
    Wu and He, Group Normalization, arXiv:1803.08494.

The letters are timm's: c is the deep stem (three 3x3 convolutions), d the deep stem and the pooled
shortcut, s a deep stem of twice the width, t a tiered deep stem and the pooled shortcut.

Departures from the papers, as in timm and torchvision, whose checkpoints fit:
    The stride of a bottleneck is on its 3x3 convolution ("v1.5"), not on its first 1x1.
    The last norm of each block starts at zero, so that a new network starts as the identity
    (Goyal et al., arXiv:1706.02677, section 5.1).
    The squeezed width of squeeze-excite is rounded to a multiple of 8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

from keras import KerasTensor

from keras_resnets.checks import require
from keras_resnets.models import attention, blocks
from keras_resnets.models.network import BackboneOptions
from keras_resnets.models.residual import (
    FORM_C,
    FORM_D,
    FORM_S,
    FORM_T,
    Block,
    BlockContext,
    BottleneckConfig,
    ResidualConfig,
    Shortcut,
    Stem,
    StemPool,
    add_shortcut,
    antialiased_conv,
    bottleneck,
    branch_end,
)
from keras_resnets.models.variant import Variant, public_names


def basic(
    x: KerasTensor, planes: int, context: BlockContext, config: ResNetConfig, name: str
) -> KerasTensor:
    """Two 3x3 convolutions: (N, H, W, C) -> (N, H / stride, W / stride, planes).

    Source: He et al., arXiv:1512.03385, figure 5 (left).
    """
    y = antialiased_conv(x, planes, context, config, number=1, name=name)
    y = blocks.conv(y, planes, 3, dilation=context.dilation, name=f"{name}.conv2")
    return branch_end(y, x, context, config, name, norm="bn2", act="act2")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResNetConfig(BottleneckConfig):
    """Numbers and parts of a ResNet; its block is `bottleneck` or `basic`."""

    block: Block = bottleneck

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.block is not basic or (self.base_width, self.cardinality) == (64, 1),
            "base_width must be 64 and cardinality 1 with the basic block, which has no middle to "
            "widen or to group",
            base_width=self.base_width,
            cardinality=self.cardinality,
        )

    def normalised_channels(self) -> Collection[int]:
        return self.planes if self.block is basic else super().normalised_channels()


# Wide ResNets for CIFAR: pre-activation -----------------------------------------------------------


def preactivation(
    x: KerasTensor, planes: int, context: BlockContext, config: WideResNetConfig, name: str
) -> KerasTensor:
    """Norm and ReLU in front of each of two 3x3 convolutions; the sum stays as it is.

    Source: Zagoruyko and Komodakis, arXiv:1605.07146, figure 1(c), "basic-wide", after He et al.,
    arXiv:1603.05027. Where the shape changes, the shortcut starts behind the first ReLU.
    """
    y = blocks.act(config.norm(x, name=f"{name}.bn1"), config.act, name=f"{name}.act1")
    if context.stride != 1 or x.shape[-1] != planes:
        x = y
    y = blocks.conv(
        y, planes, 3, context.stride, dilation=context.first_dilation, name=f"{name}.conv1"
    )
    y = config.norm(y, name=f"{name}.bn2")
    y = blocks.drop_block(y, context.drop_block, context.drop_block_size, name=f"{name}.drop_block")
    y = blocks.act(y, config.act, name=f"{name}.act2")
    y = blocks.conv(y, planes, 3, dilation=context.dilation, name=f"{name}.conv2")
    return add_shortcut(y, x, context, config, name)


def bare_stem(x: KerasTensor, config: WideResNetConfig, prefix: str) -> KerasTensor:
    """The conv stem without norm and ReLU, which the first block brings along."""
    size, stride = (3, 1) if config.small_inputs else (7, 2)
    return blocks.conv(x, config.stem_width, size, stride, name=f"{prefix}conv1")


def bare_projection(
    x: KerasTensor, filters: int, context: BlockContext, config: WideResNetConfig, name: str
) -> KerasTensor:
    """1x1 convolution alone: its input is normalised already."""
    return blocks.conv(x, filters, 1, context.stride, name=f"{name}.0")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class WideResNetConfig(ResidualConfig):
    """Numbers of a pre-activation wide ResNet: its planes are the paper's 16, 32, 64 times k."""

    block: Block = preactivation
    stem: Stem = bare_stem
    stem_pool: StemPool = blocks.signed_max_pool
    shortcut: Shortcut = bare_projection

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        x = super().backbone(images, options)
        x = self.norm(x, name=f"{options.prefix}norm")
        return blocks.act(x, self.act, name=f"{options.prefix}norm.act")


# Variants ----------------------------------------------------------------------------------------

_SE = dict(attention=attention.squeeze_excite)
_ECA = dict(attention=attention.efficient_channel_attention)
_AA = dict(stem_pool=blocks.average_stem_pool, antialias=blocks.average_blur)
_BLUR = dict(stem_pool=blocks.blurred_max_pool, antialias=blocks.blur_pool)
_RS = dict(FORM_D, stem_pool=blocks.conv_stem_pool, attention_ratio=0.25, **_SE)
_CIFAR = dict(
    block=basic,
    planes=(16, 32, 64),
    stem_width=16,
    shortcut=blocks.zero_padding,
    small_inputs=True,
)

# fmt: off
ResNet10T = Variant("resnet10t", ResNetConfig(depths=(1, 1, 1, 1), block=basic, **FORM_T))
ResNet14T = Variant("resnet14t", ResNetConfig(depths=(1, 1, 1, 1), **FORM_T))
ResNet18 = Variant("resnet18", ResNetConfig(depths=(2, 2, 2, 2), block=basic))
ResNet18D = Variant("resnet18d", ResNetConfig(depths=(2, 2, 2, 2), block=basic, **FORM_D))
ResNet26 = Variant("resnet26", ResNetConfig(depths=(2, 2, 2, 2)))
ResNet26D = Variant("resnet26d", ResNetConfig(depths=(2, 2, 2, 2), **FORM_D))
ResNet26T = Variant("resnet26t", ResNetConfig(depths=(2, 2, 2, 2), **FORM_T))
ResNet34 = Variant("resnet34", ResNetConfig(depths=(3, 4, 6, 3), block=basic))
ResNet34D = Variant("resnet34d", ResNetConfig(depths=(3, 4, 6, 3), block=basic, **FORM_D))
ResNet50 = Variant("resnet50", ResNetConfig(depths=(3, 4, 6, 3)))
ResNet50C = Variant("resnet50c", ResNetConfig(depths=(3, 4, 6, 3), **FORM_C))
ResNet50D = Variant("resnet50d", ResNetConfig(depths=(3, 4, 6, 3), **FORM_D))
ResNet50S = Variant("resnet50s", ResNetConfig(depths=(3, 4, 6, 3), **FORM_S))
ResNet50T = Variant("resnet50t", ResNetConfig(depths=(3, 4, 6, 3), **FORM_T))
ResNet101 = Variant("resnet101", ResNetConfig(depths=(3, 4, 23, 3)))
ResNet101C = Variant("resnet101c", ResNetConfig(depths=(3, 4, 23, 3), **FORM_C))
ResNet101D = Variant("resnet101d", ResNetConfig(depths=(3, 4, 23, 3), **FORM_D))
ResNet101S = Variant("resnet101s", ResNetConfig(depths=(3, 4, 23, 3), **FORM_S))
ResNet152 = Variant("resnet152", ResNetConfig(depths=(3, 8, 36, 3)))
ResNet152C = Variant("resnet152c", ResNetConfig(depths=(3, 8, 36, 3), **FORM_C))
ResNet152D = Variant("resnet152d", ResNetConfig(depths=(3, 8, 36, 3), **FORM_D))
ResNet152S = Variant("resnet152s", ResNetConfig(depths=(3, 8, 36, 3), **FORM_S))
ResNet200 = Variant("resnet200", ResNetConfig(depths=(3, 24, 36, 3)))
ResNet200D = Variant("resnet200d", ResNetConfig(depths=(3, 24, 36, 3), **FORM_D))

# arXiv:1605.07146, table 8 (50-2); 101-2 is torchvision's.
WideResNet50_2 = Variant("wide_resnet50_2", ResNetConfig(depths=(3, 4, 6, 3), base_width=128))
WideResNet101_2 = Variant("wide_resnet101_2", ResNetConfig(depths=(3, 4, 23, 3), base_width=128))

# arXiv:1709.01507, table 2 (50, 101, 152); the others are timm's.
SEResNet18 = Variant("seresnet18", ResNetConfig(depths=(2, 2, 2, 2), block=basic, **_SE))
SEResNet34 = Variant("seresnet34", ResNetConfig(depths=(3, 4, 6, 3), block=basic, **_SE))
SEResNet50 = Variant("seresnet50", ResNetConfig(depths=(3, 4, 6, 3), **_SE))
SEResNet50T = Variant("seresnet50t", ResNetConfig(depths=(3, 4, 6, 3), **FORM_T, **_SE))
SEResNet101 = Variant("seresnet101", ResNetConfig(depths=(3, 4, 23, 3), **_SE))
SEResNet152 = Variant("seresnet152", ResNetConfig(depths=(3, 8, 36, 3), **_SE))
SEResNet152D = Variant("seresnet152d", ResNetConfig(depths=(3, 8, 36, 3), **FORM_D, **_SE))
SEResNet200D = Variant("seresnet200d", ResNetConfig(depths=(3, 24, 36, 3), **FORM_D, **_SE))
SEResNet269D = Variant("seresnet269d", ResNetConfig(depths=(3, 30, 48, 8), **FORM_D, **_SE))

# arXiv:1910.03151 (its networks have the plain stem; these forms are timm's).
ECAResNet26T = Variant("ecaresnet26t", ResNetConfig(depths=(2, 2, 2, 2), **FORM_T, **_ECA))
ECAResNet50D = Variant("ecaresnet50d", ResNetConfig(depths=(3, 4, 6, 3), **FORM_D, **_ECA))
ECAResNet50T = Variant("ecaresnet50t", ResNetConfig(depths=(3, 4, 6, 3), **FORM_T, **_ECA))
ECAResNet101D = Variant("ecaresnet101d", ResNetConfig(depths=(3, 4, 23, 3), **FORM_D, **_ECA))
ECAResNet200D = Variant("ecaresnet200d", ResNetConfig(depths=(3, 24, 36, 3), **FORM_D, **_ECA))
ECAResNet269D = Variant("ecaresnet269d", ResNetConfig(depths=(3, 30, 48, 8), **FORM_D, **_ECA))
ECAResNetLight = Variant("ecaresnetlight", ResNetConfig(depths=(1, 1, 11, 3), shortcut=blocks.pooled_projection, **_ECA))

# Anti-aliased, timm's: by 2x2 averages (aa), by the filters of arXiv:1904.11486 (blur).
ResNetAA34D = Variant("resnetaa34d", ResNetConfig(depths=(3, 4, 6, 3), block=basic, **FORM_D, **_AA))
ResNetAA50 = Variant("resnetaa50", ResNetConfig(depths=(3, 4, 6, 3), **_AA))
ResNetAA50D = Variant("resnetaa50d", ResNetConfig(depths=(3, 4, 6, 3), **FORM_D, **_AA))
ResNetAA101D = Variant("resnetaa101d", ResNetConfig(depths=(3, 4, 23, 3), **FORM_D, **_AA))
ResNetBlur18 = Variant("resnetblur18", ResNetConfig(depths=(2, 2, 2, 2), block=basic, **_BLUR))
ResNetBlur50 = Variant("resnetblur50", ResNetConfig(depths=(3, 4, 6, 3), **_BLUR))
ResNetBlur50D = Variant("resnetblur50d", ResNetConfig(depths=(3, 4, 6, 3), **FORM_D, **_BLUR))
ResNetBlur101D = Variant("resnetblur101d", ResNetConfig(depths=(3, 4, 23, 3), **FORM_D, **_BLUR))

# arXiv:2103.07579.
ResNetRS50 = Variant("resnetrs50", ResNetConfig(depths=(3, 4, 6, 3), **_RS))
ResNetRS101 = Variant("resnetrs101", ResNetConfig(depths=(3, 4, 23, 3), **_RS))
ResNetRS152 = Variant("resnetrs152", ResNetConfig(depths=(3, 8, 36, 3), **_RS))
ResNetRS200 = Variant("resnetrs200", ResNetConfig(depths=(3, 24, 36, 3), **_RS))
ResNetRS270 = Variant("resnetrs270", ResNetConfig(depths=(4, 29, 53, 4), **_RS))
ResNetRS350 = Variant("resnetrs350", ResNetConfig(depths=(4, 36, 72, 4), **_RS))
ResNetRS420 = Variant("resnetrs420", ResNetConfig(depths=(4, 44, 87, 4), **_RS))

# arXiv:1803.08494: groups of channels instead of the batch.
ResNet50GN = Variant("resnet50_gn", ResNetConfig(depths=(3, 4, 6, 3), norm=blocks.group_norm))

# CIFAR: arXiv:1512.03385, section 4.2 and table 6 (6n + 2 layers); arXiv:1605.07146, table 1.
ResNet20 = Variant("resnet20", ResNetConfig(depths=(3, 3, 3), **_CIFAR), classes=10)
ResNet32 = Variant("resnet32", ResNetConfig(depths=(5, 5, 5), **_CIFAR), classes=10)
ResNet44 = Variant("resnet44", ResNetConfig(depths=(7, 7, 7), **_CIFAR), classes=10)
ResNet56 = Variant("resnet56", ResNetConfig(depths=(9, 9, 9), **_CIFAR), classes=10)
ResNet110 = Variant("resnet110", ResNetConfig(depths=(18, 18, 18), **_CIFAR), classes=10)
WideResNet28_10 = Variant(
    "wide_resnet28_10",
    WideResNetConfig(depths=(4, 4, 4), planes=(160, 320, 640), stem_width=16, small_inputs=True),
    classes=10,
)
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
