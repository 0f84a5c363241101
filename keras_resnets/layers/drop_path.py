"""DropPath: stochastic depth."""

import keras
from keras import ops

from keras_resnets.layers.scheduled_rate import ScheduledRate


@keras.saving.register_keras_serializable(package="keras_resnets")
class DropPath(ScheduledRate):
    """Stochastic depth: while training, drops the whole input of randomly chosen samples.

    Put at the end of a residual branch, in front of the addition: a dropped sample passes the block
    by its shortcut alone. What is kept is divided by the keep probability, so the expectation is
    the input; at inference the layer is the identity.

    Args:
        rate: float in [0, 1), probability of dropping a sample's branch. It can be moved while
            training: `layer.rate = 0.05`.
        seed: optional int, makes the drops repeatable.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor whose first axis is the batch.
        training: bool, whether to drop.

    Input shape:
        Any, of rank 1 or more; all but the rank may be unknown.

    Output shape:
        That of the input.

    Raises:
        ValueError: if `rate` is not a number in [0, 1).

    Example:

    >>> branch = keras.random.normal((8, 14, 14, 64))
    >>> keras_resnets.layers.DropPath(0.2)(branch, training=True).shape
    (8, 14, 14, 64)

    Source:
        Huang et al., arXiv:1603.09382. They drop a block for the whole batch and scale at
        inference; like timm, we drop per sample and scale while training.
    """

    def call(self, inputs, training=False):
        if not training:
            return inputs
        keep = 1.0 - ops.convert_to_tensor(self._rate)
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) < keep
        return inputs * ops.cast(ops.cast(kept, "float32") / keep, inputs.dtype)
