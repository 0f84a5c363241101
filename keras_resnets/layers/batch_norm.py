"""BatchNormalization: Keras' own, in one operation where TensorFlow trains."""

import keras

from keras_resnets.layers.tracing import traces_for_xla

# oneDNN's batch norm is two to four times as slow on a number of channels that its vectors do not
# divide (benchmarks/normalization.py).
_VECTOR = 16


@keras.saving.register_keras_serializable(package="keras_resnets")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation that trains fast on TensorFlow.

    It takes the arguments of `keras.layers.BatchNormalization`, has the same weights under the same
    names in files, and gives the same values; only the speed differs. Keras computes the statistics
    of a batch, the normalisation and their gradients by a dozen operations that each pass over the
    whole image, in full precision even where the policy is a half type. TensorFlow has one
    operation for it, `FusedBatchNormV3`, which oneDNN and cuDNN implement, so that is used in
    training. On a processor the channels are filled up with zeros to a multiple of 16, which
    oneDNN needs to be fast.

    Keras' own computation is used in inference, on the other backends, where XLA compiles (which
    fuses by itself), for other axes and ranks than those of channels-last images, with a mask, and
    if `renorm`, `synchronized`, or a missing scale or centre asks for more than the operation does.

    The class is called as in Keras because names of layers in `.weights.h5` files come from it.

    Args:
        **kwargs: all of `keras.layers.BatchNormalization`.

    Input shape:
        Any; it is fast for `(batch, height, width, channels)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: as `keras.layers.BatchNormalization` does.

    Example:

    >>> x = keras.random.normal((4, 28, 28, 128))
    >>> y = keras_resnets.layers.BatchNormalization(momentum=0.9)(x, training=True)
    >>> y.shape
    (4, 28, 28, 128)

    Source:
        Ioffe and Szegedy, arXiv:1502.03167, algorithm 1. The moving variance is that of the batch
        as a population, as in Keras; PyTorch and the paper's algorithm 2 take the unbiased
        estimate, which is n / (n - 1) times as large for n values a channel.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and mask is None and self._is_fused(inputs)):
            return super().call(inputs, training=training, mask=mask)

        import tensorflow as tf  # Only this backend needs it: the package imports without it.

        channels = inputs.shape[-1]
        missing = 0 if tf.config.list_physical_devices("GPU") else -channels % _VECTOR
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        if missing:
            # Concatenating and slicing have fast gradients; tf.pad and x[..., :n] have not.
            zeros = tf.zeros(tf.concat([tf.shape(inputs)[:3], [missing]], 0), inputs.dtype)
            inputs = tf.concat([inputs, zeros], -1)
            gamma, beta = (tf.pad(values, [[0, missing]]) for values in (gamma, beta))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=tf.zeros_like(gamma),
            variance=tf.ones_like(gamma),
            epsilon=self.epsilon,
            is_training=True,
        )
        if missing:
            outputs = tf.slice(outputs, [0, 0, 0, 0], [-1, -1, -1, channels])
            mean, variance = mean[:channels], variance[:channels]
        # The operation's estimate of the variance is the unbiased one.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), variance.dtype)
        variance *= (count - 1) / count
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return outputs

    def _is_fused(self, inputs) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not getattr(self, "renorm", False)  # Keras has it from 3.14 on.
            and not self.synchronized
            and inputs.dtype.name in ("float32", "bfloat16", "float16")
            and self.variable_dtype == "float32"
            and not traces_for_xla()
        )
