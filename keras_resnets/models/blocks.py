"""The vocabulary that all families are written in.

Every function takes and returns tensors of shape `(batch, height, width, channels)` and names its
layers after the module path of the published PyTorch checkpoints: families write the dotted path
(`"layer1.0.conv2"`), and `keras_name` turns it into the layer's name (`"layer1_0_conv2"`). So one
rule loads every checkpoint. A layer that has no counterpart there takes its owner's path and a
suffix: `pad`, `act`, `add`, `mul`, `cat`, `split`, `mean`, `drop`.

Norms, stems, stem pools, shortcuts, attentions and anti-aliasing filters are *parts*: functions of
one shape each, which are fields of a configuration and are given that configuration. So a part
sees all the others (a stem its norm and activation), and a new one widens nobody's signature:

    norm(x, *, gamma, name)           attention(x, config, name)
    stem(x, config, prefix)           antialias(x, stride, name)
    stem_pool(x, config, name)        shortcut(x, filters, context, config, name)

Rule of the house: a function here takes no argument that only one family uses. A family that needs
more writes its own function in its own file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import keras
from keras import KerasTensor, layers

from keras_resnets.layers import (
    BatchNormalization,
    BlurPool2D,
    DropBlock2D,
    DropPath,
    GroupedConv2D,
    PadChannels,
    Subsample2D,
)
from keras_resnets.names import keras_name, level_name


class Norm(Protocol):
    """A normalisation; `gamma` initialises its scale, `"zeros"` at the end of a branch."""

    def __call__(self, x: KerasTensor, *, gamma: str = "ones", name: str) -> KerasTensor: ...


class Parts(Protocol):
    """What parts read from a configuration."""

    small_inputs: bool
    stem_width: int
    norm: Norm
    act: str


class Place(Protocol):
    """What a shortcut reads from its block's context."""

    stride: int
    dilation: int


def make_divisible(
    value: float, divisor: int = 8, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """Nearest multiple of `divisor` to a number of channels, at least `minimum` (or `divisor`).

    A result below `round_limit` times the value goes up to the next multiple: losing more than a
    tenth of the channels costs too much. From MobileNet; all our families inherited it.
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


# Convolution, normalisation, activation ----------------------------------------------------------


def padded(
    x: KerasTensor, kernel_size: int, stride: int, dilation: int = 1, *, name: str
) -> tuple[KerasTensor, str]:
    """The input of a convolution that pads like PyTorch, and the padding left to the convolution.

    Keras' `"same"` agrees with PyTorch at stride 1 and is cheaper there. At stride 2 it pads an
    even size by (0, 1) where PyTorch pads (1, 1), so the padding becomes a layer of its own.
    """
    if stride == 1 or kernel_size == 1:
        return x, "same"
    pad = (kernel_size - 1) // 2 * dilation
    return layers.ZeroPadding2D(pad, name=keras_name(f"{name}.pad"))(x), "valid"


def he_normal(factor: int = 1) -> keras.initializers.Initializer:
    """He et al., arXiv:1502.01852, by fan-out: kernels keep the variance of the gradients."""
    return keras.initializers.VarianceScaling(2.0 * factor, "fan_out", "untruncated_normal")


def conv(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    stride: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    name: str,
) -> KerasTensor:
    """Convolution with PyTorch's symmetric padding, `(kernel_size - 1) // 2 * dilation` a side."""
    x, padding = padded(x, kernel_size, stride, dilation, name=name)
    arguments = dict(
        filters=filters,
        kernel_size=kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=use_bias,
        name=keras_name(name),
    )
    depthwise = groups == x.shape[-1]
    # Like the published implementations it counts all filters of a grouped convolution, but a
    # single group's for a depthwise one.
    arguments["kernel_initializer"] = he_normal(groups if depthwise else 1)
    if groups == 1:
        return layers.Conv2D(**arguments)(x)
    return GroupedConv2D(groups=groups, **arguments)(x)


def batch_norm(x: KerasTensor, *, gamma: str = "ones", name: str) -> KerasTensor:
    """Batch normalisation with PyTorch's constants (its momentum 0.1 is Keras' 0.9)."""
    return BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=keras_name(name)
    )(x)


@dataclasses.dataclass(frozen=True)
class GroupNorm:
    """Group normalisation (Wu and He, arXiv:1803.08494): one image's channels, group by group.

    Attributes:
        groups: how many; they must divide the channels.
    """

    groups: int = 32

    def __call__(self, x: KerasTensor, *, gamma: str = "ones", name: str) -> KerasTensor:
        return layers.GroupNormalization(
            self.groups, epsilon=1e-5, gamma_initializer=gamma, name=keras_name(name)
        )(x)


group_norm = GroupNorm()


def act(x: KerasTensor, function: str = "relu", *, name: str) -> KerasTensor:
    return layers.Activation(function, name=keras_name(name))(x)


def conv_norm(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    stride: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    norm: Norm = batch_norm,
    gamma: str = "ones",
    activation: str | None = None,
    name: str,
) -> KerasTensor:
    """Convolution, norm and perhaps activation under the names of timm's `ConvNormAct`.

    They are `NAME.conv`, `NAME.bn` and `NAME.act`.
    """
    x = conv(x, filters, kernel_size, stride, dilation=dilation, groups=groups, name=f"{name}.conv")
    x = norm(x, gamma=gamma, name=f"{name}.bn")
    return x if activation is None else act(x, activation, name=f"{name}.act")


# Pooling -----------------------------------------------------------------------------------------


# Activations below which nothing lies: padding with zeros changes no maximum.
_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid")


def max_pool(x: KerasTensor, config: Parts, name: str) -> KerasTensor:
    """3x3 maximum, stride 2, of what the stem's activation returns."""
    if config.act not in _NEVER_NEGATIVE:
        return signed_max_pool(x, config, name)
    return zero_padded_max_pool(x, config, name)


def zero_padded_max_pool(x: KerasTensor, config: Parts, name: str) -> KerasTensor:
    """3x3 maximum, stride 2; beyond the border lie zeros."""
    x = layers.ZeroPadding2D(1, name=keras_name(f"{name}.pad"))(x)
    return layers.MaxPooling2D(3, 2, name=keras_name(name))(x)


def signed_max_pool(x: KerasTensor, config: Parts, name: str) -> KerasTensor:
    """3x3 maximum, stride 2, of values below zero too: beyond the border lies minus infinity.

    Keras' `"same"` pads so, but at stride 2 an even size on one side only. So this takes every
    second pixel of the maxima at stride 1, which needs no infinity in the graph: an int8 export
    could not represent one.
    """
    x = layers.MaxPooling2D(3, 1, "same", name=keras_name(name))(x)
    return Subsample2D(2, name=keras_name(f"{name}.stride"))(x)


def blurred_max_pool(x: KerasTensor, config: Parts, name: str) -> KerasTensor:
    """3x3 maximum at stride 1, then the blur that takes the stride.

    Source: Zhang, arXiv:1904.11486, "MaxBlurPool".
    """
    x = layers.MaxPooling2D(3, 1, "same", name=keras_name(f"{name}.0"))(x)
    return blur_pool(x, 2, f"{name}.1")


def average_stem_pool(x: KerasTensor, config: Parts, name: str) -> KerasTensor:
    """2x2 average, stride 2, that leaves out an odd border, as timm's "aa" networks do."""
    return layers.AveragePooling2D(2, 2, name=keras_name(name))(x)


def conv_stem_pool(x: KerasTensor, config: Parts, name: str) -> KerasTensor:
    """3x3 convolution of stride 2, norm and activation instead of a pool.

    Source: Bello et al., arXiv:2103.07579 (ResNet-RS).
    """
    x = conv(x, x.shape[-1], 3, 2, name=f"{name}.0")
    return act(config.norm(x, name=f"{name}.1"), config.act, name=f"{name}.2")


# Anti-aliasing: what takes the stride of a 3x3 convolution, behind its activation -----------------


def blur_pool(x: KerasTensor, stride: int, name: str) -> KerasTensor:
    """3x3 binomial filter. Source: Zhang, arXiv:1904.11486, "Triangle-3"."""
    return BlurPool2D(stride, name=keras_name(name))(x)


def average_blur(x: KerasTensor, stride: int, name: str) -> KerasTensor:
    """Average over the stride's square; nothing at stride 1, where a dilation replaced it.

    timm's leaves out an odd border, which its shortcut keeps, and fails; here both keep it.
    """
    if stride == 1:
        return x
    return layers.AveragePooling2D(stride, stride, "same", name=keras_name(name))(x)


# Averages ----------------------------------------------------------------------------------------


def average_pool(x: KerasTensor, stride: int, *, name: str) -> KerasTensor:
    """3x3 average that counts the zeros beyond the border, as PyTorch's does by default.

    Not Keras' `"same"`, which leaves them out of the average.
    """
    x = layers.ZeroPadding2D(1, name=keras_name(f"{name}.pad"))(x)
    return layers.AveragePooling2D(3, stride, name=keras_name(name))(x)


def global_average(x: KerasTensor, *, name: str) -> KerasTensor:
    """Mean over height and width, kept as a 1x1 map: (N, H, W, C) -> (N, 1, 1, C)."""
    return layers.GlobalAveragePooling2D(keepdims=True, name=keras_name(name))(x)


# Regularisation of the residual branch -----------------------------------------------------------


def drop_path(x: KerasTensor, rate: float, *, name: str) -> KerasTensor:
    """Stochastic depth, at the end of a residual branch; nothing at rate 0."""
    return DropPath(rate, name=keras_name(name))(x) if rate else x


def drop_block(x: KerasTensor, rate: float, block_size: int, *, name: str) -> KerasTensor:
    """DropBlock, behind a batch norm inside a block; nothing at rate 0."""
    return DropBlock2D(rate, block_size, name=keras_name(name))(x) if rate else x


# Stems: from the image to the first stage, before its pool ----------------------------------------


def conv_stem(x: KerasTensor, config: Parts, prefix: str) -> KerasTensor:
    """One 7x7 convolution of stride 2; 3x3 at stride 1, as for CIFAR.

    Source: He et al., arXiv:1512.03385, table 1 and section 4.2.
    """
    size, stride = (3, 1) if config.small_inputs else (7, 2)
    x = conv(x, config.stem_width, size, stride, name=f"{prefix}conv1")
    return _stem_end(x, config, prefix)


def deep_stem(x: KerasTensor, config: Parts, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths w, w, 2w.

    Source: He et al., arXiv:1812.01187, figure 2(b), "ResNet-C".
    """
    return _three_convs(x, config, prefix, deep_stem_widths(config.stem_width))


def tiered_stem(x: KerasTensor, config: Parts, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths 3w/4, w, 2w: (24, 32, 64) for w = 32.

    Source: the "t" form of timm. Its documentation says (24, 48, 64); its code and its checkpoints
    say (24, 32, 64), and they are what counts here.
    """
    return _three_convs(x, config, prefix, tiered_stem_widths(config.stem_width))


def deep_stem_widths(width: int) -> tuple[int, ...]:
    return width, width, 2 * width


def tiered_stem_widths(width: int) -> tuple[int, ...]:
    return 3 * (width // 4), width, 2 * width


def _three_convs(x: KerasTensor, config: Parts, prefix: str, widths: Sequence[int]) -> KerasTensor:
    # Numbered as in the checkpoints, where conv, norm and activation are one nn.Sequential.
    x = conv(x, widths[0], 3, 1 if config.small_inputs else 2, name=f"{prefix}conv1.0")
    x = act(config.norm(x, name=f"{prefix}conv1.1"), config.act, name=f"{prefix}conv1.2")
    x = conv(x, widths[1], 3, name=f"{prefix}conv1.3")
    x = act(config.norm(x, name=f"{prefix}conv1.4"), config.act, name=f"{prefix}conv1.5")
    x = conv(x, widths[2], 3, name=f"{prefix}conv1.6")
    return _stem_end(x, config, prefix)


def _stem_end(x: KerasTensor, config: Parts, prefix: str) -> KerasTensor:
    return act(config.norm(x, name=f"{prefix}bn1"), config.act, name=f"{prefix}act1")


# Shortcuts: used where a block changes the shape of its input ------------------------------------


def projection(
    x: KerasTensor, filters: int, context: Place, config: Parts, name: str
) -> KerasTensor:
    """1x1 convolution and norm: option (B) of He et al., arXiv:1512.03385, section 3.3."""
    x = conv(x, filters, 1, context.stride, name=f"{name}.0")
    return config.norm(x, name=f"{name}.1")


def pooled_projection(
    x: KerasTensor, filters: int, context: Place, config: Parts, name: str
) -> KerasTensor:
    """2x2 average, then a 1x1 convolution, so that no value is skipped.

    Source: He et al., arXiv:1812.01187, figure 2(c), "ResNet-D".
    """
    x = shortcut_average(x, context, name=f"{name}.0")
    x = conv(x, filters, 1, name=f"{name}.1")
    return config.norm(x, name=f"{name}.2")


def shortcut_average(x: KerasTensor, context: Place, *, name: str) -> KerasTensor:
    """The 2x2 average of a pooled shortcut.

    At stride 2 it leaves out what lies beyond an odd border. Where a dilation replaced the stride,
    timm's has stride 1 and counts zeros beyond the lower right border; so does ours.
    """
    if context.stride > 1:
        return layers.AveragePooling2D(2, context.stride, "same", name=keras_name(name))(x)
    if context.dilation > 1:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=keras_name(f"{name}.pad"))(x)
        return layers.AveragePooling2D(2, 1, name=keras_name(name))(x)
    return x


def zero_padding(
    x: KerasTensor, filters: int, context: Place, config: Parts, name: str
) -> KerasTensor:
    """Every `stride`-th pixel and zeros for the new channels: no parameters.

    Source: option (A) of He et al., arXiv:1512.03385, section 3.3, used for CIFAR (section 4.2).
    """
    if context.stride > 1:
        x = Subsample2D(context.stride, name=keras_name(f"{name}.pool"))(x)
    return PadChannels(filters, name=keras_name(f"{name}.pad"))(x)


def add(branches: list[KerasTensor], *, name: str) -> KerasTensor:
    return layers.Add(name=keras_name(name))(branches)


# Both ends of a model ----------------------------------------------------------------------------


def normalize(
    images: KerasTensor, mean: Sequence[float], std: Sequence[float], prefix: str
) -> KerasTensor:
    """RGB values 0 to 255 to zero mean and unit variance; mean and std are for values 0 to 1.

    Plain numbers in the configuration, no adapted state: nothing that could get lost when a model
    is saved. It computes in float32, because bfloat16 would leave images 8 bits of contrast.
    """
    return layers.Rescaling(
        scale=[1 / (255 * s) for s in std],
        offset=[-m / s for m, s in zip(mean, std, strict=True)],
        dtype=keras.config.dtype_policy().variable_dtype,
        name=keras_name(f"{prefix}normalize"),
    )(images)


def pyramid_level(x: KerasTensor, level: str, prefix: str) -> KerasTensor:
    """Names a tensor P1, P2, ... so that `feature_pyramid` finds it, in loaded models too."""
    return layers.Identity(name=level_name(level, prefix))(x)


def global_pool(x: KerasTensor, pooling: str, *, name: str) -> KerasTensor:
    """(N, H, W, C) -> (N, C), by `"avg"` or `"max"`."""
    pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
    return pool(name=keras_name(name))(x)


def dropout(x: KerasTensor, rate: float, *, name: str) -> KerasTensor:
    """Dropout in front of the classifier; nothing at rate 0."""
    return layers.Dropout(rate, name=keras_name(f"{name}.drop"))(x) if rate else x


def classifier(
    classes: int,
    activation: str | Callable | None,
    *,
    name: str,
    layer: type[layers.Dense] = layers.Dense,
) -> layers.Dense:
    """The last dense layer: (N, C) -> (N, classes).

    Its type is that of the weights, so that logits and loss stay float32 under mixed precision.
    """
    return layer(
        classes,
        activation=activation,
        dtype=keras.config.dtype_policy().variable_dtype,
        name=keras_name(name),
    )
