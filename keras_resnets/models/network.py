"""What every network has: its configuration, and how strides and drop rates run through it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import ClassVar

from keras import KerasTensor, layers

from keras_resnets.checks import require_flag
from keras_resnets.models import blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """What training or a task changes about a backbone, checked by `Variant.__call__`."""

    output_stride: int = 32
    drop_path: float = 0.0
    drop_block: float = 0.0
    prefix: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What every family's configuration has; a family adds its own fields and its backbone.

    Attributes:
        small_inputs: for images of about 32 pixels: the stem keeps the resolution and the stride
            of the whole network is 8 instead of 32.
        residual: False leaves out every shortcut ("plain" networks, the control of the degradation
            experiment in He et al., arXiv:1512.03385, section 4.1).
    """

    small_inputs: bool = False
    residual: bool = True

    default_dropout: ClassVar[float] = 0.0
    head: ClassVar[str] = ""  # Path in front of the classifier's `fc` in the checkpoints.
    embeds: ClassVar[bool] = False  # Whether it ends in an embedding, unless classes are asked for.

    def __post_init__(self) -> None:
        for field in ("small_inputs", "residual"):
            require_flag(**{field: getattr(self, field)})

    def __repr__(self) -> str:
        """The fields, functions by their names."""
        fields = (
            f"{field.name}={getattr(value, '__name__', repr(value))}"
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        )
        return f"{type(self).__name__}({', '.join(fields)})"

    @property
    def image_size(self) -> int:
        """Side of the images that such networks are usually for."""
        return 32 if self.small_inputs else 224

    @property
    def stride(self) -> int:
        """By how much the whole network shrinks an image."""
        return 8 if self.small_inputs else 32

    def check(self, options: BackboneOptions) -> None:
        """Raises a ValueError for options that this family cannot follow."""

    def check_pooling(self, pooling: str | None) -> None:
        """Raises a ValueError for a pooling that this family's classifier cannot stand on."""

    def backbone(self, images: KerasTensor, options: BackboneOptions) -> KerasTensor:
        """Images (N, H, W, C) to the last feature map; names P1, P2, ... on the way."""
        raise NotImplementedError

    def top(
        self,
        features: KerasTensor,
        *,
        classes: int,
        activation: str | Callable | None,
        dropout: float,
        pooling: str | None,
        prefix: str,
    ) -> KerasTensor:
        """The last feature map to class scores (N, classes); to a vector (N, C) for no classes."""
        x = self.vector(features, pooling, prefix)
        if not classes:
            return x
        name = f"{prefix}{self.classifier_path}"
        x = blocks.dropout(x, dropout, name=name)
        return self.classifier(classes, activation, name)(x)

    @property
    def classifier_path(self) -> str:
        """Module path of the classifier in the checkpoints."""
        return f"{self.head}fc"

    def vector(self, features: KerasTensor, pooling: str | None, prefix: str) -> KerasTensor:
        """The last feature map to what the classifier reads (N, C)."""
        return self.pre_logits(self.pool(features, pooling or "avg", prefix), prefix)

    def classifier(
        self, classes: int, activation: str | Callable | None, name: str
    ) -> layers.Dense:
        """The last layer, (N, C) to (N, classes)."""
        return blocks.classifier(classes, activation, name=name)

    def pool(self, features: KerasTensor, pooling: str, prefix: str) -> KerasTensor:
        """The last feature map to a vector (N, C)."""
        return blocks.global_pool(features, pooling, name=f"{prefix}{self.head}global_pool")

    def pre_logits(self, x: KerasTensor, prefix: str) -> KerasTensor:
        """What stands between pooling and classifier: in most families nothing."""
        return x


def dilated(strides: Iterable[int], start: int, output_stride: int) -> list[tuple[int, int]]:
    """Strides with those beyond the output stride turned into dilations.

    Args:
        strides: of a network's stages or blocks, in order.
        start: by how much the image has shrunk before them.
        output_stride: the most by which it may shrink.

    Returns:
        `(stride, dilation)` of each; the dilation replaces all strides so far that were taken away.

    Example:

    >>> dilated((1, 2, 2, 2), start=4, output_stride=8)
    [(1, 1), (2, 1), (1, 2), (1, 4)]
    """
    steps, dilation = [], 1
    for stride in strides:
        if start * stride > output_stride:
            dilation, stride = dilation * stride, 1
        start *= stride
        steps.append((stride, dilation))
    return steps


def rising(rate: float, count: int) -> list[float]:
    """Rates of so many blocks, rising linearly from 0 to `rate`.

    As in timm. In Huang et al., arXiv:1603.09382, equation 4, the first block already has
    1 / `count` of the rate.
    """
    return [rate * index / max(count - 1, 1) for index in range(count)]
