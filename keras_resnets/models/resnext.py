"""ResNeXt: ResNet whose 3x3 convolutions work in many groups, also squeeze-excited.

Papers:
    Xie et al., Aggregated Residual Transformations for Deep Neural Networks, arXiv:1611.05431.
    Hu et al., Squeeze-and-Excitation Networks, arXiv:1709.01507, table 2 (50 and 101 32x4d; the
    others are timm's).
    Wang et al., ECA-Net: Efficient Channel Attention, arXiv:1910.03151.

`32x4d` reads: cardinality 32, base width 4: in the first stage the 3x3 convolution has 32 groups of
4 channels. The paper draws the block in three equivalent forms (figure 3); ours is form (c), a
grouped convolution. Departures from the paper are those of `resnet.py`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras_resnets.models import attention
from keras_resnets.models.residual import FORM_D, FORM_T, Block, BottleneckConfig, bottleneck
from keras_resnets.models.variant import Variant, public_names


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResNeXtConfig(BottleneckConfig):
    """Numbers and parts of a ResNeXt; its block is ResNet's, with many groups in the middle.

    Attributes:
        cardinality: number of groups C of the 3x3 convolutions.
        base_width: channels d of a group where planes = 64.
    """

    block: Block = bottleneck
    cardinality: int
    base_width: int


# Variants ----------------------------------------------------------------------------------------

_SE = dict(attention=attention.squeeze_excite)
_ECA = dict(attention=attention.efficient_channel_attention)
_32x4d = dict(cardinality=32, base_width=4)
_32x8d = dict(cardinality=32, base_width=8)
_32x16d = dict(cardinality=32, base_width=16)
_32x32d = dict(cardinality=32, base_width=32)
_64x4d = dict(cardinality=64, base_width=4)
_CIFAR = dict(depths=(3, 3, 3), planes=(64, 128, 256), base_width=64, small_inputs=True)

# fmt: off
ResNeXt50_32x4d = Variant("resnext50_32x4d", ResNeXtConfig(depths=(3, 4, 6, 3), **_32x4d))
ResNeXt50D_32x4d = Variant("resnext50d_32x4d", ResNeXtConfig(depths=(3, 4, 6, 3), **_32x4d, **FORM_D))
ResNeXt101_32x4d = Variant("resnext101_32x4d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x4d))
ResNeXt101_32x8d = Variant("resnext101_32x8d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x8d))
ResNeXt101_32x16d = Variant("resnext101_32x16d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x16d))
ResNeXt101_32x32d = Variant("resnext101_32x32d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x32d))
ResNeXt101_64x4d = Variant("resnext101_64x4d", ResNeXtConfig(depths=(3, 4, 23, 3), **_64x4d))
ResNeXt152_32x4d = Variant("resnext152_32x4d", ResNeXtConfig(depths=(3, 8, 36, 3), **_32x4d))

SEResNeXt26D_32x4d = Variant("seresnext26d_32x4d", ResNeXtConfig(depths=(2, 2, 2, 2), **_32x4d, **FORM_D, **_SE))
SEResNeXt26T_32x4d = Variant("seresnext26t_32x4d", ResNeXtConfig(depths=(2, 2, 2, 2), **_32x4d, **FORM_T, **_SE))
SEResNeXt50_32x4d = Variant("seresnext50_32x4d", ResNeXtConfig(depths=(3, 4, 6, 3), **_32x4d, **_SE))
SEResNeXt101_32x4d = Variant("seresnext101_32x4d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x4d, **_SE))
SEResNeXt101_32x8d = Variant("seresnext101_32x8d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x8d, **_SE))
SEResNeXt101_64x4d = Variant("seresnext101_64x4d", ResNeXtConfig(depths=(3, 4, 23, 3), **_64x4d, **_SE))
SEResNeXt101D_32x8d = Variant("seresnext101d_32x8d", ResNeXtConfig(depths=(3, 4, 23, 3), **_32x8d, **FORM_D, **_SE))

ECAResNeXt26T_32x4d = Variant("ecaresnext26t_32x4d", ResNeXtConfig(depths=(2, 2, 2, 2), **_32x4d, **FORM_T, **_ECA))
ECAResNeXt50T_32x4d = Variant("ecaresnext50t_32x4d", ResNeXtConfig(depths=(3, 4, 6, 3), **_32x4d, **FORM_T, **_ECA))

# CIFAR: arXiv:1611.05431, section 5.3.
ResNeXt29_8x64d = Variant("resnext29_8x64d", ResNeXtConfig(cardinality=8, **_CIFAR), classes=10)
ResNeXt29_16x64d = Variant("resnext29_16x64d", ResNeXtConfig(cardinality=16, **_CIFAR), classes=10)

# Ours: as small as ResNet-20, 8 groups of 4 channels in the first stage; its weights come along.
ResNeXt20Cifar = Variant(
    "resnext20_cifar",
    ResNeXtConfig(depths=(2, 2, 2), planes=(16, 32, 64), cardinality=8, base_width=16, small_inputs=True),
    classes=10,
)
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
