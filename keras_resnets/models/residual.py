"""The skeleton of a residual network: stem, stages of blocks, and what a stage tells its blocks.

ResNet, ResNeXt, ResNeSt and Res2Net share it and differ in their block. A block is a function
`(x, planes, context, config, name) -> x`: `planes` is the width that the papers' tables give for a
stage, `context` says what its place in the network asks of it, and everything special to a family
comes from that family's own config. So a new block (selective kernels, ECA, pre-activation, ...)
widens nobody's signature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from keras import KerasTensor

from keras_resnets.checks import is_count, require
from keras_resnets.models import blocks
from keras_resnets.models.network import BackboneOptions, NetworkConfig


@dataclasses.dataclass(frozen=True)
class BlockContext:
    """A block's place in the network.

    Attributes:
        stride: 2 in the first block of a stage that halves the resolution.
        dilation: of the stage's 3x3 convolutions; above 1 where it replaces a stride.
        first_dilation: of the convolution that would have had the stride: the previous stage's.
        drop_path: probability of dropping the block.
        drop_block: rate of dropped regions, 0 in the first stages.
        drop_block_size: side of a dropped region.
    """

    stride: int = 1
    dilation: int = 1
    first_dilation: int = 1
    drop_path: float = 0.0
    drop_block: float = 0.0
    drop_block_size: int = 7


Block = Callable[[KerasTensor, int, BlockContext, "ResidualConfig", str], KerasTensor]
Stem = Callable[[KerasTensor, int, int, str], KerasTensor]
Shortcut = Callable[[KerasTensor, int, int, int, str], KerasTensor]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ResidualConfig(NetworkConfig):
    """Numbers and parts of a residual network; each family derives its own.

    Attributes:
        depths: number of blocks of each stage.
        planes: width of each stage, before the block's expansion.
        block: the family's block.
        stem: `conv_stem`, `deep_stem` or `tiered_stem`.
        stem_width: w of the stem's widths: w for a conv stem, 2w at the end of the others.
        shortcut: `projection`, `pooled_projection` or `zero_padding`, where the shape changes.
    """

    depths: tuple[int, ...]
    planes: tuple[int, ...] = (64, 128, 256, 512)
    block: Block
    stem: Stem = blocks.conv_stem
    stem_width: int = 64
    shortcut: Shortcut = blocks.projection

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
        for field in ("block", "stem", "shortcut"):
            value = getattr(self, field)
            require(callable(value), f"{field} must be a function", **{field: value})
        require(
            is_count(self.stem_width, 4),
            "stem_width must be an int of at least 4",
            stem_width=self.stem_width,
        )

    @property
    def stem_stride(self) -> int:
        return 1 if self.small_inputs else 4

    @property
    def stride(self) -> int:
        return self.stem_stride * 2 ** (len(self.depths) - 1)

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        prefix = options.prefix
        x = self.stem(images, self.stem_width, 1 if self.small_inputs else 2, prefix)
        x = blocks.pyramid_level(x, "P1", prefix)
        if not self.small_inputs:
            x = blocks.max_pool(x, name=f"{prefix}maxpool")
        for stage, (planes, contexts) in enumerate(
            zip(self.planes, stage_contexts(self, options), strict=True), start=1
        ):
            for i, context in enumerate(contexts):
                x = self.block(x, planes, context, self, f"{prefix}layer{stage}.{i}")
            x = blocks.pyramid_level(x, f"P{stage + 1}", prefix)
        return x


def stage_contexts(
    config: ResidualConfig, options: BackboneOptions
) -> Iterator[list[BlockContext]]:
    """For each stage, the contexts of its blocks.

    Strides beyond `output_stride` become dilations, drop-path rates rise linearly from the first
    block to the last (Huang et al., arXiv:1603.09382, section 3), and DropBlock acts in the last
    two stages, with a quarter of the rate in squares of 5 and the whole rate in squares of 3.
    """
    last = sum(config.depths) - 1
    drop_blocks = [(0.0, 7)] * len(config.depths)
    drop_blocks[-2:] = [(options.drop_block / 4, 5), (options.drop_block, 3)][-len(drop_blocks) :]
    index, net_stride, dilation, previous = 0, config.stem_stride, 1, 1
    for stage, depth in enumerate(config.depths):
        stride = 1 if stage == 0 else 2
        if net_stride * stride > options.output_stride:
            dilation, stride = dilation * stride, 1
        net_stride *= stride
        rate, size = drop_blocks[stage]
        contexts = []
        for i in range(depth):
            contexts.append(
                BlockContext(
                    stride=stride if i == 0 else 1,
                    dilation=dilation,
                    first_dilation=previous,
                    drop_path=options.drop_path * index / max(last, 1),
                    drop_block=rate,
                    drop_block_size=size,
                )
            )
            previous = dilation
            index += 1
        yield contexts


def conv1x1_bn_act(x: KerasTensor, filters: int, *, number: int, name: str) -> KerasTensor:
    """A block's n-th convolution, 1x1, with its norm and ReLU: `conv{n}`, `bn{n}`, `act{n}`."""
    x = blocks.conv(x, filters, 1, name=f"{name}.conv{number}")
    return blocks.act(blocks.bn(x, name=f"{name}.bn{number}"), name=f"{name}.act{number}")


def conv3x3_bn_drop_act(
    x: KerasTensor, filters: int, context: BlockContext, *, number: int, name: str, groups: int = 1
) -> KerasTensor:
    """The block's spatial convolution: it has the stride, and DropBlock acts behind its norm."""
    x = blocks.conv(
        x,
        filters,
        3,
        context.stride,
        dilation=context.first_dilation,
        groups=groups,
        name=f"{name}.conv{number}",
    )
    x = blocks.bn(x, name=f"{name}.bn{number}")
    x = blocks.drop_block(x, context.drop_block, context.drop_block_size, name=f"{name}.drop_block")
    return blocks.act(x, name=f"{name}.act{number}")


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
        x = config.shortcut(
            x, branch.shape[-1], context.stride, context.dilation, f"{name}.downsample"
        )
    return blocks.add([branch, x], name=f"{name}.add")


def branch_width(planes: int, config: ResidualConfig) -> int:
    """Channels of a bottleneck's 3x3 convolution: `base_width` a group where planes = 64."""
    return planes * config.base_width // 64 * getattr(config, "cardinality", 1)


def require_branch_width(config: ResidualConfig) -> None:
    """Checks the fields that `branch_width` computes from."""
    for field in ("base_width", "cardinality"):
        value = getattr(config, field, 1)
        require(is_count(value), f"{field} must be a positive int", **{field: value})
    require(
        all(branch_width(planes, config) for planes in config.planes),
        "base_width: planes * base_width / 64 must be at least 1 in every stage",
        base_width=config.base_width,
        planes=config.planes,
    )


# The letters of timm's names, as parts of a configuration.
FORM_C = dict(stem=blocks.deep_stem, stem_width=32)
FORM_D = dict(FORM_C, shortcut=blocks.pooled_projection)
FORM_S = dict(stem=blocks.deep_stem, stem_width=64)
FORM_T = dict(FORM_D, stem=blocks.tiered_stem)
