"""DropBlock2D: dropout of contiguous regions."""

import keras
from keras import ops

from keras_resnets.checks import as_plain, require_count
from keras_resnets.layers.scheduled_rate import ScheduledRate


@keras.saving.register_keras_serializable(package="keras_resnets")
class DropBlock2D(ScheduledRate):
    """While training, sets square regions of the feature maps to zero.

    Neighbouring activations carry nearly the same information, so dropping single values teaches a
    convolutional network little. This layer draws centres at random in every channel and zeroes a
    `block_size` x `block_size` square around each, then rescales what is left so that the mean
    survival stays one. At inference it is the identity.

    Args:
        rate: float in [0, 1), the expected fraction of dropped values while squares do not
            overlap. The papers raise it during training: `layer.rate = 0.05`.
        block_size: int, side of a square in pixels of the feature map. A map smaller than the
            square uses the map's own side.
        seed: optional int, makes the drops repeatable.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: 4D tensor `(batch, height, width, channels)`.
        training: bool, whether to drop.

    Input shape:
        4D tensor `(batch, height, width, channels)`; batch, height and width may be unknown.

    Output shape:
        That of the input.

    Raises:
        ValueError: if `rate` is not a number in [0, 1) or `block_size` not a positive int.

    Example:

    >>> x = keras.random.normal((8, 14, 14, 64))
    >>> keras_resnets.layers.DropBlock2D(0.1, block_size=5)(x, training=True).shape
    (8, 14, 14, 64)

    Source:
        Ghiasi et al., arXiv:1810.12890, algorithm 1 and the formula of gamma. Centres are drawn
        only where the whole square fits, and independently for every channel, as in the paper.
    """

    def __init__(self, rate: float, block_size: int = 7, seed: int | None = None, **kwargs):
        super().__init__(rate, seed, **kwargs)
        require_count(block_size=block_size)
        self.block_size = as_plain(block_size)

    def call(self, inputs, training=False):
        if not training:
            return inputs
        shape = ops.shape(inputs)
        rows, centre_rows, high = self._centres(shape[1])
        columns, centre_columns, wide = self._centres(shape[2])

        # Gamma: so many centres that, squares times area, the rate comes out.
        area = ops.cast(shape[1] * shape[2], "float32")
        gamma = ops.convert_to_tensor(self._rate) * area / (high * wide * rows * columns)
        random = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        fits = ops.logical_and(centre_rows[:, None, None], centre_columns[None, :, None])
        centres = ops.cast(ops.logical_and(random < gamma, fits), "float32")
        dropped = ops.max_pool(
            centres, self.block_size, strides=1, padding="same", data_format="channels_last"
        )
        kept = 1.0 - dropped
        scale = 1.0 / ops.maximum(ops.mean(kept), keras.config.epsilon())
        return inputs * ops.cast(kept * scale, inputs.dtype)

    def _centres(self, size):
        """Along one axis: how many centres fit, a mask of where, and the square's side."""
        side = ops.minimum(self.block_size, size)
        position = ops.arange(size)
        inside = ops.logical_and(
            position >= side // 2,
            position < size - (side - 1) // 2,
        )
        return ops.cast(size - side + 1, "float32"), inside, ops.cast(side, "float32")

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}
