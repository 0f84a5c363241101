"""StandardizedConv2D: a convolution whose kernel is standardised, filter by filter."""

import keras
from keras import ops

from keras_resnets.checks import as_plain, require_positive


@keras.saving.register_keras_serializable(package="keras_resnets")
class StandardizedConv2D(keras.layers.Conv2D):
    """2D convolution with a kernel of zero mean and unit variance for each filter.

    The kernel that is stored and trained is another: each time, its filters are standardised over
    their height, width and input channels. With a group norm behind it, this trains as well as a
    batch norm does, for any number of images a device.

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of 2 ints.
        epsilon: positive float, added to each filter's variance.
        **kwargs: the other arguments of `keras.layers.Conv2D`.

    Input shape:
        4D tensor `(batch, height, width, channels)`; height and width may be unknown.

    Output shape:
        That of `keras.layers.Conv2D`.

    Raises:
        ValueError: if `epsilon` is not a positive number, or as `keras.layers.Conv2D` does.

    Example:

    >>> x = keras.random.normal((4, 28, 28, 128))
    >>> keras_resnets.layers.StandardizedConv2D(256, 3, padding="same")(x).shape
    (4, 28, 28, 256)

    Source:
        Qiao et al., arXiv:1903.10520, equation 5. The epsilon is that of BiT (Kolesnikov et al.,
        arXiv:1912.11370) in timm.
    """

    def __init__(
        self, filters: int, kernel_size: int | tuple[int, int], *, epsilon: float = 1e-8, **kwargs
    ):
        super().__init__(filters, kernel_size, **kwargs)
        require_positive(epsilon=epsilon)
        self.epsilon = as_plain(epsilon)

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, self.standardized(kernel))

    def standardized(self, kernel):
        """A kernel (height, width, in, out) as the convolution uses it."""
        # In a half type the variance of many small numbers would be lost.
        wide = ops.cast(kernel, self.variable_dtype)
        mean, variance = ops.moments(wide, axes=(0, 1, 2), keepdims=True)
        return ops.cast((wide - mean) / ops.sqrt(variance + self.epsilon), kernel.dtype)

    def convolution(self) -> keras.layers.Conv2D:
        """The plain convolution that gives the same values, for inference."""
        config = {key: value for key, value in self.get_config().items() if key != "epsilon"}
        plain = keras.layers.Conv2D.from_config(config)
        plain.build((None, None, None, self.kernel.shape[2] * self.groups))
        kernel = ops.convert_to_tensor(self.kernel)
        plain.set_weights([self.standardized(kernel), *self.get_weights()[1:]])
        return plain

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
