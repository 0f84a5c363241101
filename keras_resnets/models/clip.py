"""The image towers of CLIP: ResNets that end in attention pooling, or in a plain average.

Papers:
    Radford et al., Learning Transferable Visual Models from Natural Language Supervision,
    arXiv:2103.00020, section 2.4.
    He et al., arXiv:1812.01187 (deep stem and pooled shortcut).
    Zhang, arXiv:1904.11486 (the idea of anti-aliasing; the filter is a 2x2 average).

Attention pooling: the mean of the feature map asks all of its positions, in heads of 64 channels;
what it gets is projected into the space that images and texts share. So the model's output is an
embedding, and its "classes" are the embedding's channels. With `classes=` the projection becomes a
new classifier. The `gap` forms are the same towers without pooling and projection: they return the
mean feature vector, or classes if `classes=` asks for them.

x4, x16 and x64 are about so many times as much computation as ResNet-50, by EfficientNet's rule:
deeper, wider, for larger images. Positions are learned for one size of images and resampled for
others, as in timm.

timm computes the attention of all positions and keeps that of the mean. Here the mean alone asks,
with the same output, so `count_macs` counts less than timm's tables.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from keras import KerasTensor, layers

from keras_resnets.checks import require, require_count, require_flag
from keras_resnets.layers import HeadsAttention, PositionedTokens
from keras_resnets.models import blocks
from keras_resnets.models.byobnet import ByobConfig, average_pool, pooled_projection
from keras_resnets.models.residual import Antialias, Shortcut, StemPool
from keras_resnets.models.variant import Variant, public_names
from keras_resnets.names import keras_name

_HEAD_DIM = 64


def attention_pool(features: KerasTensor, grid: int, *, name: str) -> KerasTensor:
    """Attention of the mean over all positions: (N, H, W, C) -> (N, C).

    Source: Radford et al., arXiv:2103.00020, section 2.4 and the authors' `AttentionPool2d`.
    """
    channels = features.shape[-1]
    mean, tokens = PositionedTokens(grid, name=keras_name(name))(features)

    def projected(x: KerasTensor, role: str) -> KerasTensor:
        return layers.Dense(channels, name=keras_name(f"{name}.{role}"))(x)

    asked = [projected(mean, "q"), projected(tokens, "k"), projected(tokens, "v")]
    x = HeadsAttention(_HEAD_DIM, name=keras_name(f"{name}.attention"))(asked)
    return layers.Reshape((channels,), name=keras_name(f"{name}.flat"))(x)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class CLIPConfig(ByobConfig):
    """Numbers of an image tower.

    Attributes:
        grid: side of the feature map of the images that the tower is for, theirs by 32; attention
            pooling learns positions for it.
        attention_pooling: False for an average instead, without projection.
    """

    stem_pool: StemPool = average_pool
    shortcut: Shortcut = pooled_projection
    antialias: Antialias | None = blocks.average_blur
    grid: int = 7
    attention_pooling: bool = True

    embeds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(grid=self.grid)
        require_flag(attention_pooling=self.attention_pooling)
        channels = self.planes[-1] * getattr(self.block, "expansion", 1)
        require(
            not self.attention_pooling or channels % _HEAD_DIM == 0,
            f"planes: attention pooling needs a multiple of {_HEAD_DIM} channels in the end",
            planes=self.planes,
            attention_pooling=self.attention_pooling,
        )

    @property
    def image_size(self) -> int:
        return self.stride * self.grid

    def check_pooling(self, pooling: str | None) -> None:
        require(
            pooling is None or not self.attention_pooling,
            "pooling must be None with attention pooling; pass attention_pooling=False for another",
            pooling=pooling,
        )

    @property
    def classifier_path(self) -> str:
        return "head.proj" if self.attention_pooling else super().classifier_path

    def vector(self, features: KerasTensor, pooling: str | None, prefix: str) -> KerasTensor:
        if self.attention_pooling:
            return attention_pool(features, self.grid, name=f"{prefix}head")
        return super().vector(features, pooling, prefix)


# Variants ----------------------------------------------------------------------------------------


def _wider(width: float, depths: tuple[int, ...], grid: int) -> CLIPConfig:
    planes = tuple(int(width * planes) for planes in (64, 128, 256, 512))
    return CLIPConfig(depths=depths, planes=planes, stem_width=planes[0] // 2, grid=grid)


_50 = _wider(1, (3, 4, 6, 3), 7)
_101 = _wider(1, (3, 4, 23, 3), 7)
_50x4 = _wider(1.25, (4, 6, 10, 6), 9)
_50x16 = _wider(1.5, (6, 8, 18, 8), 12)
_50x64 = _wider(2, (3, 15, 36, 10), 14)


def _averaged(config: CLIPConfig) -> CLIPConfig:
    return dataclasses.replace(config, attention_pooling=False)


# fmt: off
ResNet50CLIP = Variant("resnet50_clip", _50, classes=1024)
ResNet101CLIP = Variant("resnet101_clip", _101, classes=512)
ResNet50x4CLIP = Variant("resnet50x4_clip", _50x4, classes=640)
ResNet50x16CLIP = Variant("resnet50x16_clip", _50x16, classes=768)
ResNet50x64CLIP = Variant("resnet50x64_clip", _50x64, classes=1024)
ResNet50CLIPGap = Variant("resnet50_clip_gap", _averaged(_50), classes=0)
ResNet101CLIPGap = Variant("resnet101_clip_gap", _averaged(_101), classes=0)
ResNet50x4CLIPGap = Variant("resnet50x4_clip_gap", _averaged(_50x4), classes=0)
ResNet50x16CLIPGap = Variant("resnet50x16_clip_gap", _averaged(_50x16), classes=0)
ResNet50x64CLIPGap = Variant("resnet50x64_clip_gap", _averaged(_50x64), classes=0)
# fmt: on

if not TYPE_CHECKING:  # A checker reads no computed list; without one it sees every name.
    __all__ = public_names(globals())
