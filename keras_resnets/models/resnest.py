"""ResNeSt: split attention in the middle of ResNet-D's bottleneck.

Paper: Zhang et al., ResNeSt: Split-Attention Networks, arXiv:2004.08955.

`2s1x64d` reads: radix R = 2 splits in each of K = 1 cardinal groups of base width 64. The 3x3
convolution then has G = K * R groups, and attention weighs the R splits of a cardinal
group against each other. Radix 1 is attention by a sigmoid over a single split, radix 0 none at
all: a ResNet-D, or ResNeXt-D.

The channels of the 3x3 convolution are radix-major, as in the checkpoints and in the paper's
appendix: first the first split of every cardinal group, then the second of every group, and so on.
That order lets one grouped convolution do the work of all groups.

Departures from the paper, as in the authors' code and in timm, whose checkpoints fit: the 3x3
average that halves the resolution stands behind the 3x3 convolution, or in front of it in the
"fast" models of the ablation (`avd_first`), and never in the first stage. Where `output_stride`
takes a stage's stride away, its average goes too, as in timm; the authors' code keeps an average of
stride 1 there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from keras import KerasTensor, layers

from keras_resnets.checks import is_count, require, require_flag
from keras_resnets.layers import SplitChannels
from keras_resnets.models import attention, blocks
from keras_resnets.models.residual import (
    Block,
    BlockContext,
    BranchConfig,
    Shortcut,
    Stem,
    bottleneck_end,
    conv_norm_act,
    spatial_conv,
)
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name


def split_attention_bottleneck(
    x: KerasTensor, planes: int, context: BlockContext, config: ResNeStConfig, name: str
) -> KerasTensor:
    """1x1, split-attention 3x3, 1x1: (N, H, W, C) -> (N, H / stride, W / stride, 4 * planes).

    Source: Zhang et al., arXiv:2004.08955, figure 1 (right) and "Average Downsampling": an average,
    not the convolution, takes the stride.
    """
    width = config.width(planes)
    pooled = context.stride > 1
    dense = context.at_stride_1()

    y = conv_norm_act(x, width, config, number=1, name=name)
    if pooled and config.avd_first:
        y = blocks.average_pool(y, context.stride, name=f"{name}.avd_first")
    if config.radix:
        y = split_attention(y, width, dense, config, f"{name}.conv2")
    else:
        y = spatial_conv(y, width, dense, config, groups=config.cardinality, number=2, name=name)
    if pooled and not config.avd_first:
        y = blocks.average_pool(y, context.stride, name=f"{name}.avd_last")
    return bottleneck_end(y, x, planes, context, config, name)


def split_attention(
    x: KerasTensor, width: int, context: BlockContext, config: ResNeStConfig, name: str
) -> KerasTensor:
    """Grouped 3x3 convolution whose splits are weighed by attention: keeps (N, H, W, width).

    Source: Zhang et al., arXiv:2004.08955, equations 1 to 3.
    """
    radix, cardinality = config.radix, config.cardinality
    x = blocks.conv(
        x,
        width * radix,
        3,
        dilation=context.first_dilation,
        groups=cardinality * radix,
        name=f"{name}.conv",
    )
    x = config.norm(x, name=f"{name}.bn0")
    x = blocks.drop_block(x, context.drop_block, context.drop_block_size, name=f"{name}.drop")
    x = blocks.act(x, config.act, name=f"{name}.act0")

    # Equation 1: sum of the splits, averaged over the image. The two commute, and averaging first
    # leaves only vectors to add.
    gap = blocks.global_average(x, name=f"{name}.mean")
    if radix > 1:
        gap = blocks.add(split(gap, radix, f"{name}.mean.split"), name=f"{name}.mean.add")
    squeezed = squeezed_width(width, radix)
    a = blocks.conv(gap, squeezed, 1, groups=cardinality, use_bias=True, name=f"{name}.fc1")
    a = blocks.act(config.norm(a, name=f"{name}.bn1"), config.act, name=f"{name}.act1")
    a = blocks.conv(a, width * radix, 1, groups=cardinality, use_bias=True, name=f"{name}.fc2")

    # Equation 3.
    if radix == 1:
        a = blocks.act(a, "sigmoid", name=f"{name}.rsoftmax")
        return layers.Multiply(name=keras_name(f"{name}.mul"))([x, a])
    a = radix_softmax(a, radix, cardinality, f"{name}.rsoftmax")
    # Equation 2: the weighted sum, split by split; nothing of R times the size is made.
    splits = split(x, radix, f"{name}.split")
    return attention.weighted_sum(splits, split(a, radix, f"{name}.rsoftmax.split"), name)


def radix_softmax(a: KerasTensor, radix: int, cardinality: int, name: str) -> KerasTensor:
    """Softmax across the splits; cardinality-major (K, R, c) in, radix-major (R, K, c) out."""
    channels = a.shape[-1]
    per_split = channels // (radix * cardinality)
    a = layers.Reshape((cardinality, radix, per_split), name=keras_name(f"{name}.cardinal"))(a)
    a = layers.Permute((2, 1, 3), name=keras_name(f"{name}.permute"))(a)
    a = layers.Softmax(axis=1, name=keras_name(name))(a)
    return layers.Reshape((1, 1, channels), name=keras_name(f"{name}.flat"))(a)


def squeezed_width(width: int, radix: int) -> int:
    """Channels between the two fully connected layers: a quarter of the splits', at least 32."""
    return blocks.make_divisible(width * radix / 4, 8, minimum=32)


def split(x: KerasTensor, radix: int, name: str) -> list[KerasTensor]:
    return SplitChannels(radix, name=keras_name(name))(x)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResNeStConfig(BranchConfig):
    """Numbers of a ResNeSt.

    Attributes:
        radix: number R of splits in a cardinal group; 0 for no attention.
        cardinality: number K of cardinal groups.
        base_width: channels of a cardinal group where planes = 64.
        avd_first: whether the average that halves the resolution stands in front of the 3x3
            convolution, which then works on a quarter of the pixels ("fast").
    """

    block: Block = split_attention_bottleneck
    stem: Stem = blocks.deep_stem
    stem_width: int = 32
    shortcut: Shortcut = blocks.pooled_projection
    radix: int = 2
    avd_first: bool = False

    def __post_init__(self) -> None:
        require(is_count(self.radix, 0), "radix must be an int of at least 0", radix=self.radix)
        super().__post_init__()
        require_flag(avd_first=self.avd_first)
        if self.radix:
            for planes in self.planes:
                self._require_whole_groups(self.width(planes))

    def normalised_channels(self) -> Collection[int]:
        middles = [self.width(planes) for planes in self.planes] if self.radix else []
        inside = {
            n for width in middles for n in (width * self.radix, squeezed_width(width, self.radix))
        }
        return {*super().normalised_channels(), *inside}

    def _require_whole_groups(self, width: int) -> None:
        squeezed = squeezed_width(width, self.radix)
        for divides, rule in (
            (
                width % (self.radix * self.cardinality) == 0,
                f"radix * cardinality must divide the {width} channels of a 3x3 convolution",
            ),
            (
                squeezed % self.cardinality == 0,
                f"cardinality must divide the {squeezed} channels that attention is computed from",
            ),
        ):
            require(
                divides,
                rule,
                radix=self.radix,
                cardinality=self.cardinality,
                base_width=self.base_width,
                planes=self.planes,
            )


def parse_split(text: str) -> dict[str, int]:
    """Reads the paper's notation: `"4s2x40d"` is radix 4, cardinality 2, base width 40.

    Source: the ablation of Zhang et al., arXiv:2004.08955, and the authors' `ablation.md`.

    Raises:
        ValueError: if the text is not of the form `<radix>s<cardinality>x<base width>d`.
    """
    match = re.fullmatch(r"(\d+)s(\d+)x(\d+)d", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            "A split setting must read like '2s1x64d' (radix 2, cardinality 1, base width 64). "
            f"Received: {text!r}"
        )
    return dict(zip(("radix", "cardinality", "base_width"), map(int, match.groups()), strict=True))


# Variants ----------------------------------------------------------------------------------------


def _fast(setting: str) -> ResNeStConfig:
    """ResNeSt-50 of the ablation: the average in front of the 3x3 convolution."""
    return ResNeStConfig(depths=(3, 4, 6, 3), avd_first=True, **parse_split(setting))


# fmt: off
ResNeSt14 = Variant("resnest14d", ResNeStConfig(depths=(1, 1, 1, 1)))
ResNeSt26 = Variant("resnest26d", ResNeStConfig(depths=(2, 2, 2, 2)))
ResNeSt50 = Variant("resnest50d", ResNeStConfig(depths=(3, 4, 6, 3)))
ResNeSt101 = Variant("resnest101e", ResNeStConfig(depths=(3, 4, 23, 3), stem_width=64))
ResNeSt200 = Variant("resnest200e", ResNeStConfig(depths=(3, 24, 36, 3), stem_width=64))
ResNeSt269 = Variant("resnest269e", ResNeStConfig(depths=(3, 30, 48, 8), stem_width=64))

# The ablation grid: arXiv:2004.08955, radix against cardinality, and the authors' ablation.md.
ResNeSt50_0s1x64d = Variant("resnest50d_0s1x64d", _fast("0s1x64d"))
ResNeSt50_1s1x64d = Variant("resnest50d_1s1x64d", _fast("1s1x64d"))
ResNeSt50_2s1x64d = Variant("resnest50d_2s1x64d", _fast("2s1x64d"))
ResNeSt50_4s1x64d = Variant("resnest50d_4s1x64d", _fast("4s1x64d"))
ResNeSt50_1s2x40d = Variant("resnest50d_1s2x40d", _fast("1s2x40d"))
ResNeSt50_2s2x40d = Variant("resnest50d_2s2x40d", _fast("2s2x40d"))
ResNeSt50_4s2x40d = Variant("resnest50d_4s2x40d", _fast("4s2x40d"))
ResNeSt50_1s4x24d = Variant("resnest50d_1s4x24d", _fast("1s4x24d"))

# Ours: as small as ResNet-20, in the fast form; its weights come along.
ResNeSt20Cifar = Variant(
    "resnest20_cifar",
    ResNeStConfig(depths=(2, 2, 2), planes=(16, 32, 64), stem_width=16, avd_first=True, small_inputs=True),
    classes=10,
)
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
