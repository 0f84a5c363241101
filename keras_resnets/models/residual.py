"""The skeleton of a residual network: stem, stages of blocks, and the block that most share.

A block is a function `(x, planes, context, config, name) -> x`: `planes` is the width that the
papers' tables give for a stage, `context` says what its place in the network asks of it, and
everything special to a family comes from that family's own configuration. So a new block
(selective kernels, pre-activation, ...) widens nobody's signature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import ClassVar

import keras
from keras import KerasTensor

from keras_resnets.checks import is_count, require, require_count, require_ratio
from keras_resnets.models import blocks
from keras_resnets.models.network import BackboneOptions, NetworkConfig, dilated, rising


@dataclasses.dataclass(frozen=True)
class BlockContext:
    """What a block's place in the network asks of it.

    Attributes:
        stride: 2 in the first block of a stage that halves the resolution.
        dilation: of the stage's 3x3 convolutions; above 1 where it replaces a stride.
        first_dilation: of the convolution that would have had the stride: the previous stage's.
        drop_path: probability of dropping the block.
        drop_block: rate of dropped regions, 0 in the first stages.
        drop_block_size: side of a dropped region.
        begins_stage: whether it is the first block of its stage.
    """

    stride: int = 1
    dilation: int = 1
    first_dilation: int = 1
    drop_path: float = 0.0
    drop_block: float = 0.0
    drop_block_size: int = 7
    begins_stage: bool = False

    @property
    def begins_resolution(self) -> bool:
        """Whether the resolution is halved here, or would be but for the output stride."""
        return self.stride > 1 or self.dilation != self.first_dilation

    def at_stride_1(self) -> BlockContext:
        """The same for a convolution whose stride something else takes."""
        return dataclasses.replace(self, stride=1)


Block = Callable[[KerasTensor, int, BlockContext, "ResidualConfig", str], KerasTensor]
Stem = Callable[[KerasTensor, "ResidualConfig", str], KerasTensor]
StemPool = Callable[[KerasTensor, "ResidualConfig", str], KerasTensor]
Shortcut = Callable[[KerasTensor, int, BlockContext, "ResidualConfig", str], KerasTensor]
Attention = Callable[[KerasTensor, "BranchConfig", str], KerasTensor]
Antialias = Callable[[KerasTensor, int, str], KerasTensor]

# Channels of the norms of stems, where they are known.
_STEM_WIDTHS = {
    blocks.conv_stem: lambda width: (width,),
    blocks.deep_stem: blocks.deep_stem_widths,
    blocks.tiered_stem: blocks.tiered_stem_widths,
}


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResidualConfig(NetworkConfig):
    """Numbers and parts of a residual network; each family derives its own.

    Attributes:
        depths: number of blocks of each stage.
        planes: width of each stage, before the block's expansion.
        block: the family's block.
        stem: `conv_stem`, `deep_stem` or `tiered_stem` of `blocks`, or another of their shape.
        stem_width: w of the stem's widths: w for a conv stem, 2w at the end of the others.
        stem_pool: what halves the resolution behind the stem; left out with `small_inputs`.
        shortcut: `projection`, `pooled_projection` or `zero_padding`, where the shape changes.
        norm: `batch_norm`, `group_norm`, or another of their shape.
        act: a Keras activation by its name.
    """

    depths: tuple[int, ...]
    planes: tuple[int, ...] = (64, 128, 256, 512)
    block: Block
    stem: Stem = blocks.conv_stem
    stem_width: int = 64
    stem_pool: StemPool = blocks.max_pool
    shortcut: Shortcut = blocks.projection
    norm: blocks.Norm = blocks.batch_norm
    act: str = "relu"

    stem_pool_name: ClassVar[str] = "maxpool"

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("depths", "planes"):
            value = getattr(self, field)
            require(
                isinstance(value, (tuple, list)) and len(value) > 0 and all(map(is_count, value)),
                f"{field} must be a tuple of positive ints",
                **{field: value},
            )
            object.__setattr__(self, field, tuple(value))  # Lists are welcome; configs hash.
        if len(self.planes) > len(self.depths):
            # A shallower network keeps the first stages' widths.
            object.__setattr__(self, "planes", self.planes[: len(self.depths)])
        require(
            len(self.depths) == len(self.planes),
            "depths and planes must name the same number of stages",
            depths=self.depths,
            planes=self.planes,
        )
        for field in ("block", "stem", "stem_pool", "shortcut", "norm"):
            value = getattr(self, field)
            require(callable(value), f"{field} must be a function", **{field: value})
        require(
            is_count(self.stem_width, 4),
            "stem_width must be an int of at least 4",
            stem_width=self.stem_width,
        )
        require_activation(act=self.act)
        self._check_groups()

    def _check_groups(self) -> None:
        """A group norm's groups must divide the channels of every norm."""
        groups = getattr(self.norm, "groups", 1)
        stem = _STEM_WIDTHS.get(self.stem, lambda width: ())(self.stem_width)
        undivided = sorted(n for n in {*stem, *self.normalised_channels()} if n % groups)
        require(
            not undivided,
            f"norm: its {groups} groups must divide the channels of every norm",
            norm=self.norm,
            channels=undivided,
        )

    def normalised_channels(self) -> Collection[int]:
        """Channels of the norms inside the blocks."""
        return self.planes

    @property
    def last_gamma(self) -> str:
        """How the scale of a branch's last norm starts: at zero, and the block is the identity.

        In a plain network there is nothing beside the branch, and zeros would stop every gradient.
        """
        return "zeros" if self.residual else "ones"

    @property
    def stem_stride(self) -> int:
        return 1 if self.small_inputs else 4

    @property
    def stride(self) -> int:
        return self.stem_stride * 2 ** (len(self.depths) - 1)

    def block_name(self, stage: int, index: int) -> str:
        """Module path of a block in the checkpoints; stages count from 1, blocks from 0."""
        return f"layer{stage}.{index}"

    def block_at(self, stage: int, index: int) -> Block:
        """The block there; in most families all are the same."""
        return self.block

    def last_convolution(self, x: KerasTensor, prefix: str) -> KerasTensor:
        """What follows the last block within its level: in most families nothing."""
        return x

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        prefix = options.prefix
        x = self.stem(images, self, prefix)
        x = blocks.pyramid_level(x, "P1", prefix)
        if not self.small_inputs:
            x = self.stem_pool(x, self, f"{prefix}{self.stem_pool_name}")
        for stage, (planes, contexts) in enumerate(
            zip(self.planes, stage_contexts(self, options), strict=True), start=1
        ):
            for i, context in enumerate(contexts):
                block = self.block_at(stage, i)
                x = block(x, planes, context, self, prefix + self.block_name(stage, i))
            if stage == len(self.depths):
                x = self.last_convolution(x, prefix)
            x = blocks.pyramid_level(x, f"P{stage + 1}", prefix)
        return x


def require_activation(**activations: str) -> None:
    for key, value in activations.items():
        known = isinstance(value, str)
        try:
            keras.activations.get(value)
        except ValueError:
            known = False
        require(known, f"{key} must be the name of a Keras activation", **{key: value})


def stage_contexts(
    config: ResidualConfig, options: BackboneOptions
) -> Iterator[list[BlockContext]]:
    """For each stage, the contexts of its blocks.

    Strides beyond `output_stride` become dilations, drop-path rates rise linearly, and DropBlock
    acts in the last two stages, with a quarter of the rate in squares of 5 and the whole rate in
    squares of 3. These are timm's squares and rates; Ghiasi et al., arXiv:1810.12890, and the
    authors of ResNeSt have others.
    """
    drop_paths = iter(rising(options.drop_path, sum(config.depths)))
    drop_blocks = [(0.0, 7)] * len(config.depths)
    drop_blocks[-2:] = [(options.drop_block / 4, 5), (options.drop_block, 3)][-len(drop_blocks) :]
    strides = (1, *[2] * (len(config.depths) - 1))
    previous = 1
    for depth, (stride, dilation), (rate, size) in zip(
        config.depths,
        dilated(strides, config.stem_stride, options.output_stride),
        drop_blocks,
        strict=True,
    ):
        yield [
            BlockContext(
                stride=stride if i == 0 else 1,
                dilation=dilation,
                first_dilation=previous if i == 0 else dilation,
                drop_path=next(drop_paths),
                drop_block=rate,
                drop_block_size=size,
                begins_stage=i == 0,
            )
            for i in range(depth)
        ]
        previous = dilation


# Parts of blocks ---------------------------------------------------------------------------------


def conv_norm_act(
    x: KerasTensor, filters: int, config: ResidualConfig, *, number: int, name: str
) -> KerasTensor:
    """A block's n-th convolution, 1x1, with norm and activation: `conv{n}`, `bn{n}`, `act{n}`."""
    x = blocks.conv(x, filters, 1, name=f"{name}.conv{number}")
    x = config.norm(x, name=f"{name}.bn{number}")
    return blocks.act(x, config.act, name=f"{name}.act{number}")


def spatial_conv(
    x: KerasTensor,
    filters: int,
    context: BlockContext,
    config: ResidualConfig,
    *,
    number: int,
    name: str,
    groups: int = 1,
) -> KerasTensor:
    """The block's 3x3 convolution that has the stride; DropBlock acts behind its norm."""
    x = blocks.conv(
        x,
        filters,
        3,
        context.stride,
        dilation=context.first_dilation,
        groups=groups,
        name=f"{name}.conv{number}",
    )
    x = config.norm(x, name=f"{name}.bn{number}")
    x = blocks.drop_block(x, context.drop_block, context.drop_block_size, name=f"{name}.drop_block")
    return blocks.act(x, config.act, name=f"{name}.act{number}")


def add_shortcut(
    branch: KerasTensor, x: KerasTensor, context: BlockContext, config: ResidualConfig, name: str
) -> KerasTensor:
    """Adds a block's input to its residual branch (not in plain networks).

    The drop is always on the branch. (timm 1.0.31 applies it to a ResNeSt block's input instead,
    where it does nothing in identity blocks: its ResNeSts train without stochastic depth.)
    """
    if not config.residual:
        return branch
    branch = blocks.drop_path(branch, context.drop_path, name=f"{name}.drop_path")
    if context.stride != 1 or x.shape[-1] != branch.shape[-1]:
        x = config.shortcut(x, branch.shape[-1], context, config, f"{name}.downsample")
    return blocks.add([branch, x], name=f"{name}.add")


def branch_end(
    y: KerasTensor,
    x: KerasTensor,
    context: BlockContext,
    config: BranchConfig,
    name: str,
    *,
    norm: str,
    act: str,
) -> KerasTensor:
    """What follows a block's last convolution: norm, attention, shortcut, activation.

    The norm starts at zero, so that a new network starts as the identity.
    """
    y = config.norm(y, gamma=config.last_gamma, name=f"{name}.{norm}")
    if config.attention is not None:
        y = config.attention(y, config, f"{name}.se")
    y = add_shortcut(y, x, context, config, name)
    return blocks.act(y, config.act, name=f"{name}.{act}")


def bottleneck_end(
    y: KerasTensor,
    x: KerasTensor,
    planes: int,
    context: BlockContext,
    config: BranchConfig,
    name: str,
) -> KerasTensor:
    """The end of every bottleneck: a 1x1 convolution to `4 * planes` channels, and `branch_end`."""
    y = blocks.conv(y, 4 * planes, 1, name=f"{name}.conv3")
    return branch_end(y, x, context, config, name, norm="bn3", act="act3")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class BranchConfig(ResidualConfig):
    """What families of bottlenecks share: the middle's width, and attention at the end.

    Attributes:
        base_width: channels of a group of the 3x3 convolution where planes = 64.
        cardinality: its number of groups.
        attention: `squeeze_excite`, `efficient_channel_attention`, another of their shape, or None.
        attention_ratio: squeezed by expanded width of squeeze-excite.
    """

    base_width: int = 64
    cardinality: int = 1
    attention: Attention | None = None
    attention_ratio: float = 1 / 16

    def __post_init__(self) -> None:
        require_count(base_width=self.base_width, cardinality=self.cardinality)
        super().__post_init__()
        require(
            all(map(self.width, self.planes)),
            "base_width: planes * base_width / 64 must be at least 1 in every stage",
            base_width=self.base_width,
            planes=self.planes,
        )
        require(
            self.attention is None or callable(self.attention),
            "attention must be a function or None",
            attention=self.attention,
        )
        require_ratio(attention_ratio=self.attention_ratio)

    def width(self, planes: int) -> int:
        """Channels of a bottleneck's 3x3 convolution."""
        return planes * self.base_width // 64 * self.cardinality

    def normalised_channels(self) -> Collection[int]:
        return {*map(self.width, self.planes), *(4 * planes for planes in self.planes)}


# The bottleneck of ResNet and ResNeXt ------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class BottleneckConfig(BranchConfig):
    """Numbers and parts of a ResNet or ResNeXt.

    Attributes:
        antialias: `blur_pool`, `average_blur`, another of their shape, or None: what takes the
            stride of a 3x3 convolution.
    """

    antialias: Antialias | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.antialias is None or callable(self.antialias),
            "antialias must be a function or None",
            antialias=self.antialias,
        )


def bottleneck(
    x: KerasTensor, planes: int, context: BlockContext, config: BottleneckConfig, name: str
) -> KerasTensor:
    """1x1, 3x3, 1x1 residual block: (N, H, W, C) -> (N, H / stride, W / stride, 4 * planes).

    Source: He et al., arXiv:1512.03385, figure 5 (right). With a cardinality it is ResNeXt's
    (Xie et al., arXiv:1611.05431, figure 3(c) and table 1); with `base_width` 128 that of the wide
    ResNets for ImageNet (arXiv:1605.07146, table 8): only the middle is wider.
    """
    width = config.width(planes)
    y = conv_norm_act(x, width, config, number=1, name=name)
    y = antialiased_conv(y, width, context, config, groups=config.cardinality, number=2, name=name)
    return bottleneck_end(y, x, planes, context, config, name)


def antialiased_conv(
    x: KerasTensor,
    filters: int,
    context: BlockContext,
    config: BottleneckConfig,
    *,
    number: int,
    name: str,
    groups: int = 1,
) -> KerasTensor:
    """A `spatial_conv` whose stride the anti-aliasing filter takes, if there is one.

    Source: Zhang, arXiv:1904.11486: a strided convolution becomes a convolution of
    stride 1, its activation, and the filter with the stride.
    """
    if config.antialias is None or not context.begins_resolution:
        return spatial_conv(x, filters, context, config, number=number, name=name, groups=groups)
    dense = context.at_stride_1()
    x = spatial_conv(x, filters, dense, config, number=number, name=name, groups=groups)
    return config.antialias(x, context.stride, f"{name}.aa")


# The letters of timm's names, as parts of a configuration.
FORM_C = dict(stem=blocks.deep_stem, stem_width=32)
FORM_D = dict(FORM_C, shortcut=blocks.pooled_projection)
FORM_S = dict(stem=blocks.deep_stem, stem_width=64)
FORM_T = dict(FORM_D, stem=blocks.tiered_stem)
