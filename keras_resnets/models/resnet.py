"""ResNet, in its plain, c, d, s and t forms, wide, squeeze-excited, and for CIFAR.

Papers:
    He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385.
    He et al., Bag of Tricks for Image Classification with CNNs, arXiv:1812.01187 (c and d forms).
    Zagoruyko and Komodakis, Wide Residual Networks, arXiv:1605.07146.
    Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507.

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
from typing import TYPE_CHECKING

from keras import KerasTensor

from keras_resnets.checks import require, require_ratio
from keras_resnets.models import blocks
from keras_resnets.models.network import BackboneOptions
from keras_resnets.models.residual import (
    FORM_C,
    FORM_D,
    FORM_S,
    FORM_T,
    Block,
    BlockContext,
    ResidualConfig,
    Shortcut,
    Stem,
    add_shortcut,
    branch_width,
    conv1x1_bn_act,
    conv3x3_bn_drop_act,
    require_branch_width,
)
from keras_resnets.models.variant import Variant, public_names


def bottleneck(
    x: KerasTensor, planes: int, context: BlockContext, config: ResNetConfig, name: str
) -> KerasTensor:
    """1x1, 3x3, 1x1 residual block: (N, H, W, C) -> (N, H / stride, W / stride, 4 * planes).

    Source: He et al., arXiv:1512.03385, figure 5 (right). With `base_width` 128 it is the block of
    the wide ResNets for ImageNet (arXiv:1605.07146, table 8): only the middle is wider.
    """
    width = branch_width(planes, config)
    y = conv1x1_bn_act(x, width, number=1, name=name)
    y = conv3x3_bn_drop_act(y, width, context, number=2, name=name)
    y = blocks.conv(y, 4 * planes, 1, name=f"{name}.conv3")
    y = blocks.bn(y, gamma="zeros", name=f"{name}.bn3")
    if config.se_ratio:
        y = blocks.squeeze_excite(y, config.se_ratio, name=f"{name}.se")
    return blocks.act(add_shortcut(y, x, context, config, name), name=f"{name}.act3")


def basic(
    x: KerasTensor, planes: int, context: BlockContext, config: ResNetConfig, name: str
) -> KerasTensor:
    """Two 3x3 convolutions: (N, H, W, C) -> (N, H / stride, W / stride, planes).

    Source: He et al., arXiv:1512.03385, figure 5 (left).
    """
    y = conv3x3_bn_drop_act(x, planes, context, number=1, name=name)
    y = blocks.conv(y, planes, 3, dilation=context.dilation, name=f"{name}.conv2")
    y = blocks.bn(y, gamma="zeros", name=f"{name}.bn2")
    if config.se_ratio:
        y = blocks.squeeze_excite(y, config.se_ratio, name=f"{name}.se")
    return blocks.act(add_shortcut(y, x, context, config, name), name=f"{name}.act2")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResNetConfig(ResidualConfig):
    """Numbers of a ResNet.

    Attributes:
        block: `bottleneck` or `basic`.
        base_width: width of a bottleneck's 3x3 convolution where planes = 64.
        se_ratio: squeezed by expanded width of squeeze-excite; 0 for none.
    """

    block: Block = bottleneck
    base_width: int = 64
    se_ratio: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_branch_width(self)
        require(
            self.block is not basic or self.base_width == 64,
            "base_width must be 64 with the basic block, which has no middle to widen",
            base_width=self.base_width,
        )
        require_ratio(se_ratio=self.se_ratio)


# Wide ResNets for CIFAR: pre-activation ------------------------------------------------------------


def preactivation(
    x: KerasTensor, planes: int, context: BlockContext, config: WideResNetConfig, name: str
) -> KerasTensor:
    """Norm and ReLU in front of each of two 3x3 convolutions; the sum stays as it is.

    Source: Zagoruyko and Komodakis, arXiv:1605.07146, figure 1(a), after He et al.,
    arXiv:1603.05027. Where the shape changes, the shortcut starts behind the first ReLU.
    """
    y = blocks.act(blocks.bn(x, name=f"{name}.bn1"), name=f"{name}.act1")
    if context.stride != 1 or x.shape[-1] != planes:
        x = y
    y = blocks.conv(
        y, planes, 3, context.stride, dilation=context.first_dilation, name=f"{name}.conv1"
    )
    y = blocks.bn(y, name=f"{name}.bn2")
    y = blocks.drop_block(y, context.drop_block, context.drop_block_size, name=f"{name}.drop_block")
    y = blocks.act(y, name=f"{name}.act2")
    y = blocks.conv(y, planes, 3, dilation=context.dilation, name=f"{name}.conv2")
    return add_shortcut(y, x, context, config, name)


def bare_stem(x: KerasTensor, width: int, stride: int, prefix: str) -> KerasTensor:
    """The conv stem without norm and ReLU, which the first block brings along."""
    return blocks.conv(x, width, 7 if stride == 2 else 3, stride, name=f"{prefix}conv1")


def bare_projection(
    x: KerasTensor, filters: int, stride: int, dilation: int, name: str
) -> KerasTensor:
    """1x1 convolution alone: its input is normalised already."""
    return blocks.conv(x, filters, 1, stride, name=f"{name}.0")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class WideResNetConfig(ResidualConfig):
    """Numbers of a pre-activation wide ResNet: its planes are the paper's 16, 32, 64 times k."""

    block: Block = preactivation
    stem: Stem = bare_stem
    shortcut: Shortcut = bare_projection

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        x = super().backbone(images, options)
        x = blocks.bn(x, name=f"{options.prefix}norm")
        return blocks.act(x, name=f"{options.prefix}norm.act")


# Variants ----------------------------------------------------------------------------------------

_SE = dict(se_ratio=1 / 16)
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

# arXiv:1605.07146, table 8.
WideResNet50_2 = Variant("wide_resnet50_2", ResNetConfig(depths=(3, 4, 6, 3), base_width=128))
WideResNet101_2 = Variant("wide_resnet101_2", ResNetConfig(depths=(3, 4, 23, 3), base_width=128))

# arXiv:1709.01507, table 2.
SEResNet18 = Variant("seresnet18", ResNetConfig(depths=(2, 2, 2, 2), block=basic, **_SE))
SEResNet34 = Variant("seresnet34", ResNetConfig(depths=(3, 4, 6, 3), block=basic, **_SE))
SEResNet50 = Variant("seresnet50", ResNetConfig(depths=(3, 4, 6, 3), **_SE))
SEResNet50T = Variant("seresnet50t", ResNetConfig(depths=(3, 4, 6, 3), **FORM_T, **_SE))
SEResNet101 = Variant("seresnet101", ResNetConfig(depths=(3, 4, 23, 3), **_SE))
SEResNet152 = Variant("seresnet152", ResNetConfig(depths=(3, 8, 36, 3), **_SE))
SEResNet152D = Variant("seresnet152d", ResNetConfig(depths=(3, 8, 36, 3), **FORM_D, **_SE))
SEResNet200D = Variant("seresnet200d", ResNetConfig(depths=(3, 24, 36, 3), **FORM_D, **_SE))
SEResNet269D = Variant("seresnet269d", ResNetConfig(depths=(3, 30, 48, 8), **FORM_D, **_SE))

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
