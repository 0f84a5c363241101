"""Layers that cut and widen the channel axis, as Res2Net, ResNeSt, ReXNet and ResNet need it."""

import keras
from keras import ops

from keras_resnets.checks import as_plain, require_count


@keras.saving.register_keras_serializable(package="keras_resnets")
class SplitChannels(keras.layers.Layer):
    """Cuts the last axis into equal slices.

    Args:
        sections: int, how many slices; divides the number of channels.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(..., channels)`; all but the channels may be unknown.

    Output shape:
        A list of `sections` tensors `(..., channels // sections)`, in the channels' order.

    Raises:
        ValueError: if `sections` does not divide the number of channels.

    Example:

    >>> slices = keras_resnets.layers.SplitChannels(4)(keras.ops.ones((2, 7, 7, 104)))
    >>> [s.shape[-1] for s in slices]
    [26, 26, 26, 26]
    """

    def __init__(self, sections: int, **kwargs):
        super().__init__(**kwargs)
        require_count(sections=sections)
        self.sections = as_plain(sections)

    def build(self, input_shape):
        if input_shape[-1] % self.sections:
            raise ValueError(
                "sections must divide the number of channels. "
                f"Received: sections={self.sections}, input shape {tuple(input_shape)}"
            )
        super().build(input_shape)

    def call(self, inputs):
        return ops.split(inputs, self.sections, axis=-1)

    def compute_output_shape(self, input_shape):
        return [(*input_shape[:-1], input_shape[-1] // self.sections)] * self.sections

    def get_config(self):
        return {**super().get_config(), "sections": self.sections}


@keras.saving.register_keras_serializable(package="keras_resnets")
class PadChannels(keras.layers.Layer):
    """Appends channels of zeros: the parameter-free way to add tensors of different widths.

    Args:
        channels: int, number of channels afterwards; at least as many as come in.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        `(..., n)`; all but the channels may be unknown.

    Output shape:
        `(..., channels)`: the n input channels, then zeros.

    Raises:
        ValueError: if the input has more than `channels` channels.

    Example:

    >>> keras_resnets.layers.PadChannels(32)(keras.ops.ones((2, 8, 8, 16))).shape
    (2, 8, 8, 32)

    Source:
        He et al., arXiv:1512.03385, section 3.3, shortcut option (A); Han et al.,
        arXiv:2007.00992, whose shortcuts feed only the first channels of a wider output.
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        require_count(channels=channels)
        self.channels = as_plain(channels)

    def build(self, input_shape):
        if input_shape[-1] > self.channels:
            raise ValueError(
                "channels must be at least the number of input channels. "
                f"Received: channels={self.channels}, input shape {tuple(input_shape)}"
            )
        super().build(input_shape)

    def call(self, inputs):
        missing = self.channels - inputs.shape[-1]
        return ops.pad(inputs, [(0, 0)] * (len(inputs.shape) - 1) + [(0, missing)])

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
