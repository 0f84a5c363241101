"""GroupedConv2D: a grouped convolution that is fast on every backend."""

import functools
import itertools

import keras
from keras import ops

from keras_resnets.layers.tracing import traces_for_xla

# Channels of a block of groups; the fastest of 8 to 64 where XLA compiles for a CPU, at every
# resolution of a ResNeXt (benchmarks/grouped.py).
_BLOCK_WIDTH = 16


@keras.saving.register_keras_serializable(package="keras_resnets")
class GroupedConv2D(keras.layers.Conv2D):
    """2D convolution in groups: each group of filters sees its own slice of the input channels.

    It takes the arguments of `keras.layers.Conv2D`, has the same weights and gives the same values;
    only the speed differs, since it chooses how to compute:

    - `"native"`: the backend's own grouped convolution. On TensorFlow it is called directly, where
      `keras.layers.Conv2D(groups=n)` wraps it in a nested, XLA-compiled function, which is slow to
      train on a CPU and cannot be exported to ONNX.
    - `"blocks"`: neighbouring groups form a block of about 16 channels, which is convolved with a
      dense kernel that is zero between groups; a depthwise convolution (one channel a group) is a
      sum of shifted products. XLA has no good grouped convolution for CPUs, above all not for its
      gradients, so this is the choice on JAX, and on TensorFlow under `jit_compile=True`, where
      there is no GPU. It is also the choice where TensorFlow has no gradients for groups: built or
      started without oneDNN (`TF_ENABLE_ONEDNN_OPTS=0`), or in types that oneDNN does not take,
      such as float16 on most processors. Values that are not finite spread within their block.

    Elsewhere `"native"` is the choice. Set the attribute `implementation` to one of the two, of a
    layer or of the class, to try the other before anything is traced; it is not saved.

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
        ValueError: if `groups` does not divide `filters` or the number of input channels, or
            `implementation` is set to something else.

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

    implementation: str | None = None

    def convolution_op(self, inputs, kernel):
        if self.data_format == "channels_first" or self.groups == 1:
            return super().convolution_op(inputs, kernel)
        implementation = self.implementation
        if implementation is None:
            implementation = _fastest(keras.backend.standardize_dtype(inputs.dtype))
        if implementation == "blocks":
            depthwise = kernel.shape[2] == 1 and kernel.shape[3] == self.groups
            # The padding of "same" depends on the image's size if the stride is above 1.
            known_padding = self.padding == "valid" or max(self.strides) == 1
            if depthwise and known_padding:
                return self._shifts(inputs, kernel)
            return self._blocks(inputs, kernel)
        if implementation != "native":
            raise ValueError(
                'implementation must be None, "native" or "blocks". '
                f"Received: implementation={implementation!r}"
            )
        if keras.backend.backend() != "tensorflow":
            return super().convolution_op(inputs, kernel)

        import tensorflow as tf  # Only this backend needs it: the package imports without it.

        return tf.nn.conv2d(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding.upper(),
            dilations=self.dilation_rate,
        )

    def _blocks(self, inputs, kernel):
        """Blocks of groups, each convolved with a kernel that is zero between its groups."""
        height, width, channels, filters = kernel.shape
        per_block = max(
            n
            for n in range(1, self.groups + 1)
            if self.groups % n == 0 and (n == 1 or n * channels <= _BLOCK_WIDTH)
        )
        blocks = self.groups // per_block
        # (..., channels, block, group, filter) -> (..., group of the inputs, channels, block,
        # group, filter), zero where the two groups differ.
        kernel = ops.reshape(kernel, (height, width, 1, channels, blocks, per_block, -1))
        same_group = ops.reshape(
            ops.eye(per_block, dtype=kernel.dtype), (1, 1, per_block, 1, 1, per_block, 1)
        )
        kernel = ops.reshape(kernel * same_group, (height, width, per_block * channels, filters))
        return ops.concatenate(
            [
                ops.conv(
                    x,
                    k,
                    strides=self.strides,
                    padding=self.padding,
                    data_format=self.data_format,
                    dilation_rate=self.dilation_rate,
                )
                for x, k in zip(
                    ops.split(inputs, blocks, axis=-1),
                    ops.split(kernel, blocks, axis=-1),
                    strict=True,
                )
            ],
            axis=-1,
        )

    def _shifts(self, inputs, kernel):
        """A depthwise convolution: each tap of the kernel times the image as this tap sees it."""
        height, width = kernel.shape[:2]
        reach = [d * (n - 1) for d, n in zip(self.dilation_rate, (height, width), strict=True)]
        if self.padding == "same":
            sides = [(r // 2, r - r // 2) for r in reach]
            inputs = ops.pad(inputs, ((0, 0), *sides, (0, 0)))
        # Half types are added up in full precision, as convolutions do.
        full = keras.backend.result_type(inputs.dtype, "float32")
        total = 0.0
        for tap in itertools.product(range(height), range(width)):
            rows, columns = (
                slice(d * i, (d * i - r) or None, stride)
                for d, i, r, stride in zip(
                    self.dilation_rate, tap, reach, self.strides, strict=True
                )
            )
            seen = ops.cast(inputs[:, rows, columns], full)
            total = total + seen * ops.cast(kernel[tap][0], full)
        return ops.cast(total, inputs.dtype)


def _fastest(dtype: str) -> str:
    """The implementation for this backend, device and type."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return "blocks" if jax.default_backend() == "cpu" else "native"
    if backend == "tensorflow":
        import tensorflow as tf

        if traces_for_xla() and not tf.config.list_logical_devices("GPU"):
            return "blocks"
        return "native" if _tensorflow_has_grouped_gradients(dtype) else "blocks"
    return "native"


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
