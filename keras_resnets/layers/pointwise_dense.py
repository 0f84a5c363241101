"""PointwiseDense: a dense layer that PyTorch has as a 1x1 convolution."""

import keras


@keras.saving.register_keras_serializable(package="keras_resnets")
class PointwiseDense(keras.layers.Dense):
    """A dense layer whose kernel PyTorch's checkpoints hold as that of a 1x1 convolution.

    It computes what `keras.layers.Dense` does. The class says how `save_safetensors` has to write
    the kernel, `(units, channels, 1, 1)`, so that the file loads strictly there.

    Args:
        units: int, number of outputs.
        **kwargs: the other arguments of `keras.layers.Dense`.

    Input shape:
        `(..., channels)`.

    Output shape:
        `(..., units)`.

    Raises:
        ValueError: as `keras.layers.Dense` does.

    Example:

    >>> keras_resnets.layers.PointwiseDense(10)(keras.ops.ones((2, 64))).shape
    (2, 10)
    """
