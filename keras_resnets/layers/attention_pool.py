"""What attention pooling needs besides dense layers: tokens with positions, and the attention."""

import keras
from keras import ops

from keras_resnets.checks import as_plain, require_count


@keras.saving.register_keras_serializable(package="keras_resnets")
class PositionedTokens(keras.layers.Layer):
    """A feature map as a row of tokens, their mean in front, each with its learned position added.

    The positions are learned for a square feature map. For one of another size the table is
    resampled, by the antialiased cubic filter that Pillow and PyTorch have.

    Args:
        grid: int, side of the feature map that the positions are learned for.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        4D tensor `(batch, height, width, channels)`; height and width may be unknown.

    Output shape:
        Two tensors: the mean token `(batch, 1, channels)`, and all tokens, the mean among them,
        `(batch, 1 + height * width, channels)`.

    Raises:
        ValueError: if `grid` is not a positive int.

    Example:

    >>> mean, tokens = keras_resnets.layers.PositionedTokens(7)(keras.ops.ones((2, 7, 7, 64)))
    >>> mean.shape, tokens.shape
    ((2, 1, 64), (2, 50, 64))

    Source:
        Radford et al., arXiv:2103.00020, section 2.4, and the authors' `AttentionPool2d`.
    """

    def __init__(self, grid: int, **kwargs):
        super().__init__(**kwargs)
        require_count(grid=grid)
        self.grid = as_plain(grid)

    def build(self, input_shape):
        channels = input_shape[-1]
        self.position_embedding = self.add_weight(
            shape=(1 + self.grid**2, channels),
            initializer=keras.initializers.TruncatedNormal(stddev=channels**-0.5),
            name="position_embedding",
        )
        super().build(input_shape)

    def call(self, inputs):
        batch, height, width, channels = ops.shape(inputs)
        pixels = ops.reshape(inputs, (batch, height * width, channels))
        mean = ops.mean(pixels, axis=1, keepdims=True)
        table = ops.convert_to_tensor(self.position_embedding)
        first, positions = table[:1], table[1:]
        if (height, width) != (self.grid, self.grid):
            positions = self._resampled(positions, height, width)
        mean = mean + ops.cast(first, mean.dtype)
        pixels = pixels + ops.cast(positions, pixels.dtype)
        return mean, ops.concatenate([mean, pixels], axis=1)

    def _resampled(self, positions, height, width):
        """The table (grid * grid, channels) for another size: (height * width, channels)."""
        # Not by `ops.image.resize`: it asks for sizes known in advance, computes in float32, and
        # LiteRT has no operator for TensorFlow's.
        channels = positions.shape[-1]
        grid = ops.reshape(positions, (self.grid, self.grid, channels))
        rows, columns = (
            ops.cast(cubic_weights(size, self.grid, self.variable_dtype), positions.dtype)
            for size in (height, width)
        )
        grid = ops.einsum("hi,ijc->hjc", rows, grid)
        return ops.reshape(ops.einsum("wj,hjc->hwc", columns, grid), (height * width, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        count = None if None in (height, width) else 1 + height * width
        return (batch, 1, channels), (batch, count, channels)

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}


def cubic_weights(size, old_size: int, dtype: str):
    """Weights (size, old_size) by which `old_size` values along a line become `size` ones.

    Keys' cubic filter with a = -0.5, as wide as the distance of the new values where they are
    fewer, so that nothing is skipped.
    """
    scale = old_size / ops.cast(size, dtype)
    centres = (ops.arange(size, dtype=dtype) + 0.5) * scale
    olds = ops.arange(old_size, dtype=dtype) + 0.5
    x = ops.abs(olds[None] - centres[:, None]) / ops.maximum(scale, 1.0)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = ops.where(x < 1.0, near, ops.where(x < 2.0, far, ops.zeros_like(x)))
    return weights / ops.sum(weights, axis=1, keepdims=True)


@keras.saving.register_keras_serializable(package="keras_resnets")
class HeadsAttention(keras.layers.Layer):
    """Scaled dot-product attention in several heads, without projections of its own.

    Args:
        head_dim: int, channels of a head; divides the number of channels.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape:
        A list of three tensors: queries `(batch, queries, channels)`, keys and values
        `(batch, tokens, channels)`; all but the channels may be unknown.

    Output shape:
        `(batch, queries, channels)`.

    Raises:
        ValueError: if `head_dim` is not a positive int that divides the number of channels.

    Example:

    >>> query, tokens = keras.ops.ones((2, 1, 128)), keras.ops.ones((2, 50, 128))
    >>> keras_resnets.layers.HeadsAttention(64)([query, tokens, tokens]).shape
    (2, 1, 128)

    Source:
        Vaswani et al., arXiv:1706.03762, equation 1 and section 3.2.2.
    """

    def __init__(self, head_dim: int, **kwargs):
        super().__init__(**kwargs)
        require_count(head_dim=head_dim)
        self.head_dim = as_plain(head_dim)

    def build(self, input_shape):
        channels = input_shape[0][-1]
        if channels % self.head_dim:
            raise ValueError(
                "head_dim must divide the number of channels. "
                f"Received: head_dim={self.head_dim}, channels={channels}"
            )
        super().build(input_shape)

    def call(self, inputs):
        query, key, value = map(self._in_heads, inputs)
        scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * self.head_dim**-0.5
        mixed = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores, axis=-1), value)
        return ops.reshape(mixed, ops.shape(inputs[0]))

    def _in_heads(self, x):
        batch, tokens, channels = ops.shape(x)
        return ops.reshape(x, (batch, tokens, channels // self.head_dim, self.head_dim))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {**super().get_config(), "head_dim": self.head_dim}
