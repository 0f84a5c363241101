"""Pruned ResNets: each convolution as wide as a search has left it.

Paper: Aflalo et al., Knapsack Pruning with Inner Distillation, arXiv:2002.08258, applied to the
ECA-ResNets of `resnet.py`. The widths are data; the source is timm, `_pruned/*.txt`, from the
authors' models.

Departure, as in timm: ECA's number of neighbours is that of the network before pruning.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from typing import TYPE_CHECKING

from keras import KerasTensor

from keras_resnets.checks import is_count, require
from keras_resnets.models import attention, blocks
from keras_resnets.models.residual import (
    FORM_D,
    Block,
    BlockContext,
    ResidualConfig,
    add_shortcut,
    conv_norm_act,
    spatial_conv,
)
from keras_resnets.models.variant import Variant, public_names

Widths = tuple[tuple[tuple[int, int], ...], ...]


def pruned_bottleneck(
    x: KerasTensor,
    planes: int,
    context: BlockContext,
    config: PrunedConfig,
    name: str,
    *,
    widths: tuple[int, int],
    output: int,
) -> KerasTensor:
    """1x1, 3x3, 1x1, ECA: (N, H, W, C) -> (N, H / stride, W / stride, output)."""
    y = conv_norm_act(x, widths[0], config, number=1, name=name)
    y = spatial_conv(y, widths[1], context, config, number=2, name=name)
    y = blocks.conv(y, output, 1, name=f"{name}.conv3")
    y = config.norm(y, gamma=config.last_gamma, name=f"{name}.bn3")
    y = attention.scaled_by_neighbours(y, attention.neighbours_of(4 * planes), f"{name}.se")
    y = add_shortcut(y, x, context, config, name)
    return blocks.act(y, config.act, name=f"{name}.act3")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class PrunedConfig(ResidualConfig):
    """Widths of a pruned ECA-ResNet; `planes` are those before pruning.

    Attributes:
        widths: for each stage and block, the channels of its first 1x1 and of its 3x3 convolution.
        outputs: channels of each stage's output.
    """

    block: Block = pruned_bottleneck
    widths: Widths
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in ("widths", "outputs"):
            object.__setattr__(self, field, _as_tuples(getattr(self, field)))
        require(
            isinstance(self.outputs, tuple) and all(map(is_count, self.outputs)),
            "outputs must be a tuple of positive ints",
            outputs=self.outputs,
        )
        require(
            _are_widths(self.widths),
            "widths must be two positive ints for each block of each stage",
            widths=self.widths,
        )
        super().__post_init__()
        require(
            len(self.outputs) == len(self.depths) and tuple(map(len, self.widths)) == self.depths,
            "outputs and widths must name the stages and blocks that depths does",
            outputs=self.outputs,
            widths=self.widths,
            depths=self.depths,
        )

    def block_at(self, stage: int, index: int) -> Block:
        return functools.partial(
            self.block, widths=self.widths[stage - 1][index], output=self.outputs[stage - 1]
        )

    def normalised_channels(self) -> Collection[int]:
        inside = {width for stage in self.widths for pair in stage for width in pair}
        return {*inside, *self.outputs}


def _are_widths(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(stage, tuple)
        and all(
            isinstance(pair, tuple) and len(pair) == 2 and all(map(is_count, pair))
            for pair in stage
        )
        for stage in value
    )


def _as_tuples(value: object) -> object:
    """Lists are welcome; configurations hash."""
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


# Variants ----------------------------------------------------------------------------------------

# fmt: off
ECAResNet50DPruned = Variant("ecaresnet50d_pruned", PrunedConfig(
    depths=(3, 4, 6, 3),
    outputs=(19, 171, 818, 2022),
    widths=(
        ((47, 18), (52, 22), (64, 35)),
        ((85, 37), (107, 80), (120, 85), (125, 87)),
        ((198, 126), (255, 232), (256, 233), (253, 235), (256, 225), (256, 239)),
        ((492, 237), (512, 500), (512, 490)),
    ),
    **FORM_D,
))
ECAResNet101DPruned = Variant("ecaresnet101d_pruned", PrunedConfig(
    depths=(3, 4, 23, 3),
    outputs=(26, 142, 278, 2042),
    widths=(
        ((45, 25), (53, 20), (60, 27)),
        ((81, 24), (93, 49), (102, 54), (122, 78)),
        (
            (101, 25), (239, 160), (234, 156), (250, 176), (253, 191), (251, 175), (230, 128),
            (244, 154), (244, 159), (238, 97), (244, 149), (253, 181), (245, 119), (255, 216),
            (256, 201), (253, 149), (254, 141), (256, 190), (256, 217), (255, 156), (256, 155),
            (256, 232), (256, 214),
        ),
        ((499, 289), (512, 512), (512, 502)),
    ),
    **FORM_D,
))
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
