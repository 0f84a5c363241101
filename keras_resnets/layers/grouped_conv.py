"""GroupedConv2D: a grouped convolution that stays fast on the TensorFlow backend."""

import functools

import keras


@keras.saving.register_keras_serializable(package="keras_resnets")
class GroupedConv2D(keras.layers.Conv2D):
    """2D convolution in groups: each group of filters sees its own slice of the input channels.

    It takes the arguments of `keras.layers.Conv2D`, has the same weights and gives the same values;
    only the speed differs. On the TensorFlow backend `keras.layers.Conv2D(groups=n)` wraps the
    operation in a nested, XLA-compiled function, which is slow to train on a CPU and cannot be
    exported to ONNX. This layer calls TensorFlow's own grouped convolution. On a CPU that operation
    has no gradients where TensorFlow was built or started without oneDNN
    (`TF_ENABLE_ONEDNN_OPTS=0`) or in types oneDNN does not take, such as float16 on most
    processors; there the groups are convolved one by one and concatenated. JAX and torch use their
    native grouped convolution.

    The class of a layer is part of the `.weights.h5` format, so our models use this class wherever
    `groups > 1` and `keras.layers.Conv2D` wherever `groups == 1`; which path computes the result is
    decided inside the layer and may change without invalidating a file.

    Args:
        filters: int, number of output channels; a multiple of `groups`.
        kernel_size: int or tuple of 2 ints, height and width of the kernel.
        strides: int or tuple of 2 ints. A stride above 1 excludes a dilation above 1.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` (the default of an untouched Keras) or `"channels_first"`,
            which falls back to Keras' own convolution.
        dilation_rate: int or tuple of 2 ints.
        groups: int, number of groups; divides both the input channels and `filters`.
        **kwargs: `activation`, `use_bias`, the initializers, regularizers and constraints of
            `keras.layers.Conv2D`, and `name`, `dtype`, `trainable`.

    Input shape:
        4D tensor `(batch, height, width, channels)`; height and width may be unknown.

    Output shape:
        4D tensor `(batch, new_height, new_width, filters)`.

    Raises:
        ValueError: if `groups` does not divide `filters` or the number of input channels.

    Example:

    >>> x = keras.random.normal((4, 28, 28, 128))
    >>> y = keras_resnets.layers.GroupedConv2D(256, 3, groups=32, padding="same")(x)
    >>> y.shape
    (4, 28, 28, 256)

    Source:
        Krizhevsky et al. 2012 split AlexNet's convolutions over two GPUs this way; Xie et al.,
        arXiv:1611.05431, figure 3(c), made the number of groups ("cardinality") a dimension of its
        own.
    """

    def convolution_op(self, inputs, kernel):
        native = keras.backend.backend() != "tensorflow" or self.data_format == "channels_first"
        if native or self.groups == 1:
            return super().convolution_op(inputs, kernel)

        import tensorflow as tf  # Only this backend needs it: the package imports without it.

        arguments = dict(
            strides=self.strides, padding=self.padding.upper(), dilations=self.dilation_rate
        )
        if _tensorflow_has_grouped_gradients(inputs.dtype.name):
            return tf.nn.conv2d(inputs, kernel, **arguments)
        # Where conv2d has no gradients for groups, it has none for dilations; convolution has.
        pairs = zip(
            tf.split(inputs, self.groups, axis=-1),
            tf.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return tf.concat([tf.nn.convolution(x, k, **arguments) for x, k in pairs], axis=-1)


@functools.cache
def _tensorflow_has_grouped_gradients(dtype: str) -> bool:
    """Asks TensorFlow itself: it depends on build, flags, device, processor and type."""
    import tensorflow as tf

    with tf.init_scope():  # Run now, even if a graph is being traced.
        image, kernel = tf.ones((1, 1, 1, 4), dtype), tf.ones((1, 1, 2, 4), dtype)
        # The gradient's own operation, because a GradientTape records nothing in an init_scope.
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=image.shape,
                filter=kernel,
                out_backprop=image,
                strides=[1, 1, 1, 1],
                padding="VALID",
            )
        except tf.errors.OpError:
            return False
    return True
