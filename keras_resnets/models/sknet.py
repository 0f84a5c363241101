"""SKNet: 3x3 convolutions of two receptive fields, between which attention chooses.

Paper: Li et al., Selective Kernel Networks, arXiv:1903.06586.

A selective kernel splits its input into two paths with the receptive fields of a 3x3 and of a 5x5
kernel, fuses them into one vector, and selects: each channel of the output is a weighted mean of
the two paths. The 5x5 kernel is a 3x3 one with dilation 2, as in the paper.

Departures from the paper, as in timm, whose checkpoints fit: all but `SKResNeXt50_32x4d`, which is
the paper's SKNet-50, give each path one half of the input channels (`split_input`), which halves
the kernels; the stem and the shortcuts are ResNet's; the fully connected layers have no biases. As
in all our families, the last norm of a block starts at zero; timm's starts at one here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

from keras import KerasTensor, layers

from keras_resnets.checks import require, require_count, require_flag, require_ratio
from keras_resnets.layers import SplitChannels, Subsample2D
from keras_resnets.models import attention, blocks
from keras_resnets.models.residual import (
    FORM_D,
    Block,
    BlockContext,
    BranchConfig,
    branch_end,
)
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name

_PATHS = 2


def selective_kernel(
    x: KerasTensor, filters: int, context: BlockContext, config: SKConfig, name: str
) -> KerasTensor:
    """Split, fuse, select: (N, H, W, C) -> (N, H / stride, W / stride, filters).

    Source: Li et al., arXiv:1903.06586, figure 1 and equations 1 to 6.
    """
    halves = [x] * _PATHS
    if config.split_input:
        halves = SplitChannels(_PATHS, name=keras_name(f"{name}.split"))(x)
    paths = []
    for i, piece in enumerate(halves):
        path = f"{name}.paths.{i}"
        stride, dilation = context.stride, (i + 1) * context.first_dilation
        if stride > 1 and dilation % stride == 0:
            # Such a kernel sees every second pixel only, so the others can go first.
            piece = Subsample2D(stride, name=keras_name(f"{path}.stride"))(piece)
            stride, dilation = 1, dilation // stride
        y = blocks.conv_norm(
            piece,
            filters,
            3,
            stride,
            dilation=dilation,
            groups=config.cardinality,
            norm=config.norm,
            name=path,
        )
        y = blocks.drop_block(y, context.drop_block, context.drop_block_size, name=f"{path}.drop")
        paths.append(blocks.act(y, config.act, name=f"{path}.act"))

    # Equations 1 and 2: the sum of the paths, averaged over the image. The two commute, and
    # averaging first leaves only vectors to add.
    means = [blocks.global_average(y, name=f"{name}.mean{i}") for i, y in enumerate(paths)]
    fused = blocks.add(means, name=f"{name}.fuse")
    # Equations 3 and 4.
    z = blocks.conv(fused, config.fused_width(filters), 1, name=f"{name}.attn.fc_reduce")
    z = blocks.act(config.norm(z, name=f"{name}.attn.bn"), config.act, name=f"{name}.attn.act")
    # Equations 5 and 6: softmax across the paths.
    a = blocks.conv(z, filters * _PATHS, 1, name=f"{name}.attn.fc_select")
    a = layers.Reshape((_PATHS, filters), name=keras_name(f"{name}.attn.paths"))(a)
    a = layers.Softmax(axis=1, name=keras_name(f"{name}.attn.softmax"))(a)
    a = layers.Reshape((1, 1, filters * _PATHS), name=keras_name(f"{name}.attn.flat"))(a)
    weights = SplitChannels(_PATHS, name=keras_name(f"{name}.attn.split"))(a)
    return attention.weighted_sum(paths, weights, name)


def selective_bottleneck(
    x: KerasTensor, planes: int, context: BlockContext, config: SKConfig, name: str
) -> KerasTensor:
    """1x1, selective kernel, 1x1: (N, H, W, C) -> (N, H / stride, W / stride, 4 * planes).

    Source: Li et al., arXiv:1903.06586, table 1.
    """
    width = config.width(planes)
    y = blocks.conv_norm(x, width, 1, norm=config.norm, activation=config.act, name=f"{name}.conv1")
    y = selective_kernel(y, width, context, config, f"{name}.conv2")
    y = blocks.conv(y, 4 * planes, 1, name=f"{name}.conv3.conv")
    return branch_end(y, x, context, config, name, norm="conv3.bn", act="act")


def selective_basic(
    x: KerasTensor, planes: int, context: BlockContext, config: SKConfig, name: str
) -> KerasTensor:
    """Selective kernel, 3x3: (N, H, W, C) -> (N, H / stride, W / stride, planes). From timm."""
    y = selective_kernel(x, planes, context, config, f"{name}.conv1")
    y = blocks.conv(y, planes, 3, dilation=context.dilation, name=f"{name}.conv2.conv")
    return branch_end(y, x, context, config, name, norm="conv2.bn", act="act")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SKConfig(BranchConfig):
    """Numbers and parts of an SKNet; its block is `selective_bottleneck` or `selective_basic`.

    Attributes:
        split_input: whether each path of a selective kernel sees one half of the input channels.
        fused_ratio: channels of the fused vector by those of the selective kernel: 1 / r of the
            paper.
        fused_divisor: they are rounded to its multiples, of which they have at least one.
    """

    block: Block = selective_bottleneck
    split_input: bool = True
    fused_ratio: float = 1 / 16
    fused_divisor: int = 8

    def __post_init__(self) -> None:
        require_flag(split_input=self.split_input)
        require_ratio(fused_ratio=self.fused_ratio)
        require_count(fused_divisor=self.fused_divisor)
        super().__post_init__()
        basic = self.block is selective_basic
        require(
            not basic or (self.base_width, self.cardinality) == (64, 1),
            "base_width must be 64 and cardinality 1 with the basic block, which has no middle to "
            "widen or to group",
            base_width=self.base_width,
            cardinality=self.cardinality,
        )
        inputs = self.planes if basic else [self.width(planes) for planes in self.planes]
        parts = _PATHS * self.cardinality if self.split_input else self.cardinality
        require(
            all(channels % parts == 0 for channels in inputs),
            f"split_input and cardinality: a selective kernel's input must divide into {parts}",
            split_input=self.split_input,
            cardinality=self.cardinality,
            base_width=self.base_width,
            planes=self.planes,
        )

    def fused_width(self, filters: int) -> int:
        """Channels of the vector that the paths are chosen by. Source: equation 4."""
        return blocks.make_divisible(filters * self.fused_ratio, self.fused_divisor)

    def normalised_channels(self) -> Collection[int]:
        if self.block is selective_basic:
            return {*self.planes, *map(self.fused_width, self.planes)}
        widths = [self.width(planes) for planes in self.planes]
        return {*super().normalised_channels(), *map(self.fused_width, widths)}


# Variants ----------------------------------------------------------------------------------------

_BASIC = dict(block=selective_basic, fused_ratio=1 / 8, fused_divisor=16)

# fmt: off
SKResNet18 = Variant("skresnet18", SKConfig(depths=(2, 2, 2, 2), **_BASIC))
SKResNet34 = Variant("skresnet34", SKConfig(depths=(3, 4, 6, 3), **_BASIC))
SKResNet50 = Variant("skresnet50", SKConfig(depths=(3, 4, 6, 3)))
SKResNet50D = Variant("skresnet50d", SKConfig(depths=(3, 4, 6, 3), **FORM_D))
SKResNeXt50_32x4d = Variant("skresnext50_32x4d", SKConfig(
    depths=(3, 4, 6, 3), cardinality=32, base_width=4, split_input=False, fused_divisor=32,
))
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
