"""ReXNet: inverted bottlenecks whose channels grow by the same amount from block to block.

Paper: Han et al., Rethinking Channel Dimensions for Efficient Model Design, arXiv:2007.00992
(version 1: ReXNet: Diminishing Representational Bottleneck on Convolutional Neural Network).

The number after the name is 100 times the width multiplier: `ReXNet150` is 1.5x. `ReXNetR` rounds
channels to multiples of 8 (16 for 3.0x), from timm. The `ReXNetLite` models of the authors'
repository have no squeeze-excite, use ReLU6 everywhere, and end in a wider head. A ReXNet without
squeeze-excite is `ReXNet100(se_ratio=0.0)`; what the paper calls "ReXNet (plain)" is another
network.

Departures from the paper, as in the authors' code and in timm, whose checkpoints fit: the shortcut
feeds only the first channels of a block's wider output, the rest gets none; the fully connected
layers of squeeze-excite have a batch norm between them; below a width of 1 the stem and the first
block keep their channels.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from keras import KerasTensor, layers

from keras_resnets.checks import require, require_count, require_positive, require_ratio
from keras_resnets.layers import PadChannels
from keras_resnets.models import blocks
from keras_resnets.models.blocks import make_divisible
from keras_resnets.models.network import BackboneOptions, NetworkConfig, dilated, rising
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name

_STAGE_DEPTHS = (1, 2, 2, 3, 3, 5)
_STAGE_STRIDES = (1, 2, 2, 2, 1, 2)


@dataclasses.dataclass(frozen=True)
class BlockPlan:
    """Numbers of one inverted bottleneck, from `ReXNetConfig.block_plans`.

    Attributes:
        channels: channels of its output.
        expansion: expanded by input channels; 1 for no expanding convolution.
        stride: of its depthwise convolution.
        se_ratio: squeezed by expanded channels; 0 for no squeeze-excite.
        begins_level: whether the pyramid level before it ends at its input.
    """

    channels: int
    expansion: int
    stride: int
    se_ratio: float
    begins_level: bool


def inverted_bottleneck(
    x: KerasTensor,
    plan: BlockPlan,
    config: ReXNetConfig,
    *,
    dilation: int,
    shortcut: bool,
    drop_path: float,
    name: str,
) -> KerasTensor:
    """1x1 expanding, 3x3 depthwise, 1x1 linear: (N, H, W, C) -> (N, H / s, W / s, plan.channels).

    Source: Han et al., arXiv:2007.00992, on the inverted bottleneck of Sandler et al.,
    arXiv:1801.04381.
    """
    y = x
    if plan.expansion != 1:
        expanded = make_divisible(round(x.shape[-1] * plan.expansion), config.divisor)
        y = blocks.conv_norm(y, expanded, 1, activation=config.activation, name=f"{name}.conv_exp")
    expanded = y.shape[-1]
    y = blocks.conv_norm(
        y,
        expanded,
        3,
        plan.stride,
        dilation=dilation,
        groups=expanded,
        name=f"{name}.conv_dw",
    )
    if plan.se_ratio:
        squeezed = make_divisible(int(expanded * plan.se_ratio), config.divisor)
        y = squeeze_excite_bn(y, squeezed, name=f"{name}.se")
    y = blocks.act(y, "relu6", name=f"{name}.act_dw")
    y = blocks.conv_norm(y, plan.channels, 1, name=f"{name}.conv_pwl")
    if not shortcut:
        return y
    y = blocks.drop_path(y, drop_path, name=f"{name}.drop_path")
    if x.shape[-1] < plan.channels:
        x = PadChannels(plan.channels, name=keras_name(f"{name}.shortcut.pad"))(x)
    return blocks.add([y, x], name=f"{name}.add")


def squeeze_excite_bn(x: KerasTensor, squeezed: int, *, name: str) -> KerasTensor:
    """Squeeze-excite (Hu et al., arXiv:1709.01507) with a batch norm behind its first layer."""
    gate = blocks.global_average(x, name=f"{name}.mean")
    gate = blocks.conv(gate, squeezed, 1, use_bias=True, name=f"{name}.fc1")
    gate = blocks.act(blocks.batch_norm(gate, name=f"{name}.bn"), name=f"{name}.act")
    gate = blocks.conv(gate, x.shape[-1], 1, use_bias=True, name=f"{name}.fc2")
    gate = blocks.act(gate, "sigmoid", name=f"{name}.gate")
    return layers.Multiply(name=keras_name(f"{name}.mul"))([x, gate])


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ReXNetConfig(NetworkConfig):
    """Numbers of a ReXNet.

    Attributes:
        width: multiplier of all channels.
        depth: multiplier of the number of blocks of each stage.
        initial_channels: channels of the first block, before the multiplier.
        final_channels: what the last block has more than the first, before the multiplier,
            counted as if one more block followed.
        se_ratio: squeezed by expanded channels of squeeze-excite, from the third stage on.
        divisor: channels are rounded to its multiples.
    """

    width: float = 1.0
    depth: float = 1.0
    initial_channels: int = 16
    final_channels: int = 180
    se_ratio: float = 1 / 12
    divisor: int = 1

    default_dropout: ClassVar[float] = 0.2
    head: ClassVar[str] = "head."
    activation: ClassVar[str] = "silu"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(width=self.width, depth=self.depth)
        for field in ("initial_channels", "final_channels", "divisor"):
            require_count(**{field: getattr(self, field)})
        require_ratio(se_ratio=self.se_ratio)

    def check(self, options: BackboneOptions) -> None:
        require(
            not options.drop_block,
            "drop_block must be 0: ReXNet has no DropBlock (drop_path is its regularisation)",
            drop_block=options.drop_block,
        )

    def scaled(self, channels: float) -> int:
        """Channels times the width multiplier, rounded."""
        return make_divisible(round(channels * self.width), self.divisor)

    @property
    def growth(self) -> float:
        """By how many channels a block is wider than the one before, before the multiplier."""
        return self.final_channels / sum(self.stage_depths)

    @property
    def stage_depths(self) -> list[int]:
        return [math.ceil(depth * self.depth) for depth in _STAGE_DEPTHS]

    @property
    def stem_channels(self) -> int:
        return self.scaled(32 / min(self.width, 1))

    @property
    def penultimate_channels(self) -> int:
        return make_divisible(1280 * self.width, self.divisor)

    def block_plans(self) -> list[BlockPlan]:
        """The blocks in order; their channels are a linear function of the block's index.

        Source: Han et al., arXiv:2007.00992, the channel parameterisation.
        """
        plans, channels = [], self.initial_channels / min(self.width, 1)
        for stage, depth in enumerate(self.stage_depths):
            for i in range(depth):
                begins_level = i == 0 and _STAGE_STRIDES[stage] == 2
                keeps_size = not begins_level or (self.small_inputs and stage == 1)
                plans.append(
                    BlockPlan(
                        channels=self.scaled(channels),
                        expansion=1 if stage == 0 else 6,
                        stride=1 if keeps_size else 2,
                        se_ratio=self.se_ratio if stage >= 2 else 0.0,
                        begins_level=begins_level,
                    )
                )
                channels += self.growth
        return plans

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        prefix, plans = options.prefix, self.block_plans()
        stride = 1 if self.small_inputs else 2
        x = blocks.conv_norm(images, self.stem_channels, 3, stride, name=f"{prefix}stem")
        x = blocks.act(x, self.activation, name=f"{prefix}stem.act")
        steps = dilated([plan.stride for plan in plans], stride, options.output_stride)
        drop_paths = rising(options.drop_path, len(plans))
        level, previous = 1, 1
        for i, (plan, (stride, dilation)) in enumerate(zip(plans, steps, strict=True)):
            if plan.begins_level:
                x = blocks.pyramid_level(x, f"P{level}", prefix)
                level += 1
            x = inverted_bottleneck(
                x,
                dataclasses.replace(plan, stride=stride),
                self,
                # The block that would have had a stride dilates as those before it; and as it
                # would have had no shortcut, it has none.
                dilation=previous,
                shortcut=self.residual
                and stride == 1
                and dilation == previous
                and x.shape[-1] <= plan.channels,
                drop_path=drop_paths[i],
                name=f"{prefix}features.{i}",
            )
            previous = dilation
        x = blocks.pyramid_level(x, f"P{level}", prefix)
        x = blocks.conv_norm(x, self.penultimate_channels, 1, name=f"{prefix}features.{len(plans)}")
        return blocks.act(x, self.activation, name=f"{prefix}features.{len(plans)}.act")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ReXNetLiteConfig(ReXNetConfig):
    """Numbers of a ReXNet-lite: no squeeze-excite, ReLU6 throughout, a dense layer in the head.

    Source: the authors' repository, clovaai/rexnet, `rexnetv1_lite.py`. Its channels grow by
    `final_channels / (blocks - 1)`, so here `final_channels` is reached.
    """

    final_channels: int = 164
    se_ratio: float = 0.0
    divisor: int = 8

    activation: ClassVar[str] = "relu6"

    @property
    def growth(self) -> float:
        return self.final_channels / (sum(self.stage_depths) - 1)

    @property
    def penultimate_channels(self) -> int:
        return int(1280 * max(self.width, 1))

    def pre_logits(self, x: KerasTensor, prefix: str) -> KerasTensor:
        x = layers.Reshape((1, 1, x.shape[-1]), name=keras_name(f"{prefix}head.map"))(x)
        x = blocks.conv(x, 1024, 1, use_bias=True, name=f"{prefix}head.conv")
        x = blocks.batch_norm(x, name=f"{prefix}head.bn")
        x = blocks.act(x, "relu6", name=f"{prefix}head.act")
        return layers.Flatten(name=keras_name(f"{prefix}head.flat"))(x)


# Variants ----------------------------------------------------------------------------------------

# arXiv:2007.00992 and the authors' repository, rexnetv1.py.
ReXNet100 = Variant("rexnet_100", ReXNetConfig(width=1.0))
ReXNet130 = Variant("rexnet_130", ReXNetConfig(width=1.3))
ReXNet150 = Variant("rexnet_150", ReXNetConfig(width=1.5))
ReXNet200 = Variant("rexnet_200", ReXNetConfig(width=2.0))
ReXNet300 = Variant("rexnet_300", ReXNetConfig(width=3.0))

# timm's, channels rounded.
ReXNetR100 = Variant("rexnetr_100", ReXNetConfig(width=1.0, divisor=8))
ReXNetR130 = Variant("rexnetr_130", ReXNetConfig(width=1.3, divisor=8))
ReXNetR150 = Variant("rexnetr_150", ReXNetConfig(width=1.5, divisor=8))
ReXNetR200 = Variant("rexnetr_200", ReXNetConfig(width=2.0, divisor=8))
ReXNetR300 = Variant("rexnetr_300", ReXNetConfig(width=3.0, divisor=16))

# The authors' repository, "ReXNet-lites vs. EfficientNet-lites".
ReXNetLite100 = Variant("rexnet_lite_100", ReXNetLiteConfig(width=1.0))
ReXNetLite130 = Variant("rexnet_lite_130", ReXNetLiteConfig(width=1.3))
ReXNetLite150 = Variant("rexnet_lite_150", ReXNetLiteConfig(width=1.5))
ReXNetLite200 = Variant("rexnet_lite_200", ReXNetLiteConfig(width=2.0))

# Ours: as cheap as ResNet-20; its weights come along.
ReXNetCifar = Variant(
    "rexnet_cifar", ReXNetConfig(width=0.5, depth=0.5, small_inputs=True), classes=10
)

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
