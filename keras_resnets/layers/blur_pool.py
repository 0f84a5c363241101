"""BlurPool2D: a low-pass filter in front of a stride."""

import keras
import numpy as np
from keras import ops

from keras_resnets.checks import as_plain, require_count

_BINOMIAL = np.array([0.25, 0.5, 0.25])


@keras.saving.register_keras_serializable(package="keras_resnets")
class BlurPool2D(keras.layers.Layer):
    """Smooths each channel by a 3x3 binomial filter and keeps every `stride`-th pixel.

    A stride alone folds frequencies that it cannot represent into others (aliasing), so that a
    shift of the image by a pixel changes the result; behind the filter it does so less. The border
    is mirrored.

    Args:
        stride: int, the distance between the pixels that stay; 1 only smooths.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        4D tensor `(batch, height, width, channels)`, height and width at least 2; they may be
        unknown.

    Output shape:
        `(batch, ceil(height / stride), ceil(width / stride), channels)`.

    Raises:
        ValueError: if `stride` is not a positive int.

    Example:

    >>> keras_resnets.layers.BlurPool2D(2)(keras.ops.ones((2, 9, 8, 16))).shape
    (2, 5, 4, 16)

    Source:
        Zhang, Making Convolutional Networks Shift-Invariant Again, arXiv:1904.11486,
        "Triangle-3". The mirrored border is timm's (`BlurPool2d`), whose checkpoints fit.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        require_count(stride=stride)
        self.stride = as_plain(stride)

    @property
    def strides(self) -> tuple[int, int]:
        """As convolutions and pools call it."""
        return self.stride, self.stride

    def call(self, inputs):
        x = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        kernel = np.tile(np.outer(_BINOMIAL, _BINOMIAL)[..., None, None], (inputs.shape[-1], 1))
        kernel = ops.convert_to_tensor(kernel, inputs.dtype)
        return ops.depthwise_conv(
            x, kernel, self.stride, padding="valid", data_format="channels_last"
        )

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        sizes = (None if size is None else -(-size // self.stride) for size in (height, width))
        return (batch, *sizes, channels)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
