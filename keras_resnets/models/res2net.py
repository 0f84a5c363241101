"""Res2Net: several scales inside one block.

Papers:
    Gao et al., Res2Net: A New Multi-scale Backbone Architecture, arXiv:1904.01169.
    He et al., arXiv:1812.01187 (the d form, which the authors call v1b).

`26w_4s` reads: base width w = 26, scale s = 4. Between its two 1x1 convolutions a block cuts the
channels into s slices and convolves them one after the other, each on top of the result before.

Departures from the paper, as in the authors' code and in timm, whose checkpoints fit: a block that
changes its input's shape ("stage" blocks) convolves its slices side by side, without the sums of
equation 1, and averages the last slice over 3x3 instead of passing it on; that average counts the
zeros beyond the border. The slice that equation 1 leaves alone is the last, not the first.

The Res2NeXt-29 for CIFAR-100 have 23.7, 33.0 and 36.1 million parameters here, as in other people's
reproductions; table 4 says 24.3, 33.8 and 36.7. The authors published no code for them. One more
convolution in each stage block, of its last slice, would account for the difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

from keras import KerasTensor, layers

from keras_resnets.checks import require_count
from keras_resnets.layers import SplitChannels
from keras_resnets.models import blocks
from keras_resnets.models.residual import (
    FORM_D,
    Block,
    BlockContext,
    BranchConfig,
    bottleneck_end,
    conv_norm_act,
)
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name


def multi_scale_bottleneck(
    x: KerasTensor, planes: int, context: BlockContext, config: Res2NetConfig, name: str
) -> KerasTensor:
    """1x1, a hierarchy of 3x3, 1x1: (N, H, W, C) -> (N, H / stride, W / stride, 4 * planes).

    Source: Gao et al., arXiv:1904.01169, figure 2(b) and equation 1; with a cardinality figure 3.
    """
    width = config.width(planes)
    side_by_side = context.stride > 1 or x.shape[-1] != 4 * planes

    y = conv_norm_act(x, width * config.scale, config, number=1, name=name)
    slices = SplitChannels(config.scale, name=keras_name(f"{name}.split"))(y)
    results = []
    for i, piece in enumerate(slices[: max(config.scale - 1, 1)]):
        if results and not side_by_side:
            piece = blocks.add([results[-1], piece], name=f"{name}.convs.{i}.add")
        piece = blocks.conv(
            piece,
            width,
            3,
            context.stride,
            dilation=context.first_dilation,
            groups=config.cardinality,
            name=f"{name}.convs.{i}",
        )
        piece = config.norm(piece, name=f"{name}.bns.{i}")
        results.append(blocks.act(piece, config.act, name=f"{name}.bns.{i}.act"))
    if config.scale > 1:
        last = slices[-1]
        if side_by_side:
            last = blocks.average_pool(last, context.stride, name=f"{name}.pool")
        results.append(last)
        y = layers.Concatenate(name=keras_name(f"{name}.cat"))(results)
    else:
        y = results[0]
    y = blocks.drop_block(y, context.drop_block, context.drop_block_size, name=f"{name}.drop_block")
    return bottleneck_end(y, x, planes, context, config, name)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Res2NetConfig(BranchConfig):
    """Numbers of a Res2Net.

    Attributes:
        scale: number s of slices.
        base_width: channels w of a slice where planes = 64.
        cardinality: groups of each 3x3 convolution (Res2NeXt).
    """

    block: Block = multi_scale_bottleneck
    scale: int
    base_width: int

    def __post_init__(self) -> None:
        require_count(scale=self.scale)
        super().__post_init__()

    def normalised_channels(self) -> Collection[int]:
        slices = {self.scale * self.width(planes) for planes in self.planes}
        return {*super().normalised_channels(), *slices}


# Variants -------------------------------------------------------------------------------------

_CIFAR = dict(depths=(3, 3, 3), planes=(64, 128, 256), small_inputs=True)

# fmt: off
Res2Net50_26w_4s = Variant("res2net50_26w_4s", Res2NetConfig(depths=(3, 4, 6, 3), base_width=26, scale=4))
Res2Net50_26w_6s = Variant("res2net50_26w_6s", Res2NetConfig(depths=(3, 4, 6, 3), base_width=26, scale=6))
Res2Net50_26w_8s = Variant("res2net50_26w_8s", Res2NetConfig(depths=(3, 4, 6, 3), base_width=26, scale=8))
Res2Net50_48w_2s = Variant("res2net50_48w_2s", Res2NetConfig(depths=(3, 4, 6, 3), base_width=48, scale=2))
Res2Net50_14w_8s = Variant("res2net50_14w_8s", Res2NetConfig(depths=(3, 4, 6, 3), base_width=14, scale=8))
Res2Net50D = Variant("res2net50d", Res2NetConfig(depths=(3, 4, 6, 3), base_width=26, scale=4, **FORM_D))
Res2Net101_26w_4s = Variant("res2net101_26w_4s", Res2NetConfig(depths=(3, 4, 23, 3), base_width=26, scale=4))
Res2Net101D = Variant("res2net101d", Res2NetConfig(depths=(3, 4, 23, 3), base_width=26, scale=4, **FORM_D))
Res2NeXt50 = Variant("res2next50", Res2NetConfig(depths=(3, 4, 6, 3), base_width=4, scale=4, cardinality=8))

# CIFAR-100: arXiv:1904.01169, table 4: c cardinality, w base width, s scale.
Res2NeXt29_6cx24wx4s = Variant("res2next29_6cx24wx4s", Res2NetConfig(cardinality=6, base_width=24, scale=4, **_CIFAR), classes=100)
Res2NeXt29_8cx25wx4s = Variant("res2next29_8cx25wx4s", Res2NetConfig(cardinality=8, base_width=25, scale=4, **_CIFAR), classes=100)
Res2NeXt29_6cx24wx6s = Variant("res2next29_6cx24wx6s", Res2NetConfig(cardinality=6, base_width=24, scale=6, **_CIFAR), classes=100)

# Ours: as small as ResNet-20, 4 scales of 8 channels in the first stage; its weights come along.
Res2Net20Cifar = Variant(
    "res2net20_cifar",
    Res2NetConfig(depths=(2, 2, 2), planes=(16, 32, 64), base_width=32, scale=4, small_inputs=True),
    classes=10,
)
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
