"""The vocabulary that all families are written in.

Every function takes and returns tensors of shape `(batch, height, width, channels)` and names its
layers after the module path of the published PyTorch checkpoints: families write the dotted path
(`"layer1.0.conv2"`), and `keras_name` here turns it into the layer's name (`"layer1_0_conv2"`). So
one rule loads every checkpoint. A layer that has no counterpart there takes its owner's path and a
suffix: `pad`, `act`, `add`, `mul`, `cat`, `split`, `mean`, `drop`.

Rule of the house: a function here takes no argument that only one family uses. A family that needs
more writes its own function in its own file.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from keras_resnets.layers import (
    BatchNormalization,
    DropBlock2D,
    DropPath,
    GroupedConv2D,
    PadChannels,
    Subsample2D,
)
from keras_resnets.names import keras_name, level_name


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
    """Convolution with PyTorch's symmetric padding, `(kernel_size - 1) // 2 * dilation` a side.

    Keras' `"same"` agrees with it at stride 1 and is cheaper there. At stride 2 it pads an even
    size by (0, 1) where PyTorch pads (1, 1), so the padding becomes a layer of its own.
    """
    padding = "same"
    if stride > 1 and kernel_size > 1:
        pad = (kernel_size - 1) // 2 * dilation
        x = layers.ZeroPadding2D(pad, name=keras_name(f"{name}.pad"))(x)
        padding = "valid"
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
    # He et al., arXiv:1502.01852, by fan-out. Like the published implementations it counts all
    # filters of a grouped convolution, but a single group's for a depthwise one.
    arguments["kernel_initializer"] = keras.initializers.VarianceScaling(
        2.0 * groups if depthwise else 2.0, "fan_out", "untruncated_normal"
    )
    if groups == 1:
        return layers.Conv2D(**arguments)(x)
    return GroupedConv2D(groups=groups, **arguments)(x)


def bn(x: KerasTensor, *, gamma: str = "ones", name: str) -> KerasTensor:
    """Batch normalisation with PyTorch's constants (its momentum 0.1 is Keras' 0.9)."""
    return BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gamma, name=keras_name(name)
    )(x)


def act(x: KerasTensor, function: str = "relu", *, name: str) -> KerasTensor:
    return layers.Activation(function, name=keras_name(name))(x)


# Pooling -----------------------------------------------------------------------------------------


def max_pool(x: KerasTensor, *, name: str) -> KerasTensor:
    """3x3 maximum, stride 2. Padding with zeros is exact because `x` comes out of a ReLU."""
    x = layers.ZeroPadding2D(1, name=keras_name(f"{name}.pad"))(x)
    return layers.MaxPooling2D(3, 2, name=keras_name(name))(x)


def average_pool(x: KerasTensor, stride: int, *, name: str) -> KerasTensor:
    """3x3 average that counts the zeros beyond the border, as PyTorch's does by default.

    Not Keras' `"same"`, which leaves them out of the average.
    """
    x = layers.ZeroPadding2D(1, name=keras_name(f"{name}.pad"))(x)
    return layers.AveragePooling2D(3, stride, name=keras_name(name))(x)


def global_average(x: KerasTensor, *, name: str) -> KerasTensor:
    """Mean over height and width, kept as a 1x1 map: (N, H, W, C) -> (N, 1, 1, C)."""
    return layers.GlobalAveragePooling2D(keepdims=True, name=keras_name(name))(x)


# Attention ---------------------------------------------------------------------------------------


def squeeze_excite(x: KerasTensor, ratio: float, *, name: str) -> KerasTensor:
    """Scales each channel by a gate computed from the means of all channels.

    Source: Hu et al., arXiv:1709.01507, figure 3. The two fully connected layers are 1x1
    convolutions, as in the checkpoints.
    """
    channels = x.shape[-1]
    squeezed = make_divisible(channels * ratio, 8, round_limit=0.0)
    gate = global_average(x, name=f"{name}.mean")
    gate = conv(gate, squeezed, 1, use_bias=True, name=f"{name}.fc1")
    gate = act(gate, name=f"{name}.act")
    gate = conv(gate, channels, 1, use_bias=True, name=f"{name}.fc2")
    gate = act(gate, "sigmoid", name=f"{name}.gate")
    return layers.Multiply(name=keras_name(f"{name}.mul"))([x, gate])


# Regularisation of the residual branch -----------------------------------------------------------


def drop_path(x: KerasTensor, rate: float, *, name: str) -> KerasTensor:
    """Stochastic depth, at the end of a residual branch; nothing at rate 0."""
    return DropPath(rate, name=keras_name(name))(x) if rate else x


def drop_block(x: KerasTensor, rate: float, block_size: int, *, name: str) -> KerasTensor:
    """DropBlock, behind a batch norm inside a block; nothing at rate 0."""
    return DropBlock2D(rate, block_size, name=keras_name(name))(x) if rate else x


# Stems: from the image to the first stage, before its max-pool ------------------------------------


def conv_stem(x: KerasTensor, width: int, stride: int, prefix: str) -> KerasTensor:
    """One 7x7 convolution of stride 2; 3x3 at stride 1, as for CIFAR.

    Source: He et al., arXiv:1512.03385, table 1 and section 4.2.
    """
    x = conv(x, width, 7 if stride == 2 else 3, stride, name=f"{prefix}conv1")
    return _stem_end(x, prefix)


def deep_stem(x: KerasTensor, width: int, stride: int, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths w, w, 2w.

    Source: He et al., arXiv:1812.01187, figure 2(b), "ResNet-C".
    """
    return _three_convs(x, (width, width, 2 * width), stride, prefix)


def tiered_stem(x: KerasTensor, width: int, stride: int, prefix: str) -> KerasTensor:
    """Three 3x3 convolutions of widths 3w/4, w, 2w: (24, 32, 64) for w = 32.

    Source: the "t" form of timm. Its documentation says (24, 48, 64); its code and its checkpoints
    say (24, 32, 64), and they are what counts here.
    """
    return _three_convs(x, (3 * (width // 4), width, 2 * width), stride, prefix)


def _three_convs(
    x: KerasTensor, widths: tuple[int, int, int], stride: int, prefix: str
) -> KerasTensor:
    # Numbered as in the checkpoints, where conv, norm and activation are one nn.Sequential.
    x = conv(x, widths[0], 3, stride, name=f"{prefix}conv1.0")
    x = act(bn(x, name=f"{prefix}conv1.1"), name=f"{prefix}conv1.2")
    x = conv(x, widths[1], 3, name=f"{prefix}conv1.3")
    x = act(bn(x, name=f"{prefix}conv1.4"), name=f"{prefix}conv1.5")
    x = conv(x, widths[2], 3, name=f"{prefix}conv1.6")
    return _stem_end(x, prefix)


def _stem_end(x: KerasTensor, prefix: str) -> KerasTensor:
    return act(bn(x, name=f"{prefix}bn1"), name=f"{prefix}act1")


# Shortcuts: used where a block changes the shape of its input ------------------------------------


def projection(x: KerasTensor, filters: int, stride: int, dilation: int, name: str) -> KerasTensor:
    """1x1 convolution and batch norm: option (B) of He et al., arXiv:1512.03385, section 3.3."""
    x = conv(x, filters, 1, stride, name=f"{name}.0")
    return bn(x, name=f"{name}.1")


def pooled_projection(
    x: KerasTensor, filters: int, stride: int, dilation: int, name: str
) -> KerasTensor:
    """2x2 average, then a 1x1 convolution, so that no value is skipped.

    Source: He et al., arXiv:1812.01187, figure 2(c), "ResNet-D". At stride 2 the average leaves out
    what lies beyond an odd border. Where a dilation replaced the stride, timm's average has stride
    1 and counts zeros beyond the lower right border; so does ours.
    """
    if stride > 1:
        x = layers.AveragePooling2D(2, stride, "same", name=keras_name(f"{name}.0"))(x)
    elif dilation > 1:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=keras_name(f"{name}.0.pad"))(x)
        x = layers.AveragePooling2D(2, 1, name=keras_name(f"{name}.0"))(x)
    x = conv(x, filters, 1, name=f"{name}.1")
    return bn(x, name=f"{name}.2")


def zero_padding(
    x: KerasTensor, filters: int, stride: int, dilation: int, name: str
) -> KerasTensor:
    """Every `stride`-th pixel and zeros for the new channels: no parameters.

    Source: option (A) of He et al., arXiv:1512.03385, section 3.3, used for CIFAR (section 4.2).
    """
    if stride > 1:
        x = Subsample2D(stride, name=keras_name(f"{name}.pool"))(x)
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


def classifier(
    x: KerasTensor, classes: int, activation: str | None, dropout: float, *, name: str
) -> KerasTensor:
    """Dropout and the last dense layer: (N, C) -> (N, classes).

    Its type is that of the weights, so that logits and loss stay float32 under mixed precision.
    """
    if dropout:
        x = layers.Dropout(dropout, name=keras_name(f"{name}.drop"))(x)
    return layers.Dense(
        classes,
        activation=activation,
        dtype=keras.config.dtype_policy().variable_dtype,
        name=keras_name(name),
    )(x)
