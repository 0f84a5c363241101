"""Subsample2D: every n-th pixel."""

import keras

from keras_resnets.checks import as_plain, require_count


@keras.saving.register_keras_serializable(package="keras_resnets")
class Subsample2D(keras.layers.Layer):
    """Keeps every `stride`-th pixel, from the first one on, and drops the others.

    A pooling of window 1 says the same, and jitted JAX 0.10.2 computes it wrongly on a CPU where
    the branches of a block meet; a slice is right everywhere.

    Args:
        stride: int, the distance between the pixels that stay.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        4D tensor `(batch, height, width, channels)`; height and width may be unknown.

    Output shape:
        `(batch, ceil(height / stride), ceil(width / stride), channels)`.

    Raises:
        ValueError: if `stride` is not a positive int.

    Example:

    >>> keras_resnets.layers.Subsample2D(2)(keras.ops.ones((2, 9, 8, 16))).shape
    (2, 5, 4, 16)

    Source:
        He et al., arXiv:1512.03385, section 3.3: identity shortcuts "performed with a stride of 2".
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
        return inputs[:, :: self.stride, :: self.stride]

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        sizes = (None if size is None else -(-size // self.stride) for size in (height, width))
        return (batch, *sizes, channels)

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}
