"""One batch norm in training, forward and backward, by framework."""

from __future__ import annotations

import os
from collections.abc import Callable

from benchmarks.jobs.grouped import random_values


def keras_layer(
    implementation: str, size: int, channels: int, batch: int, dtype: str
) -> Callable[[], None]:
    """Prepares a Keras layer on TensorFlow, in one traced function.

    Args:
        implementation: `"ours"`, `"not filled up"` (ours without additional channels) or `"stock"`
            (`keras.layers.BatchNormalization`).
        size: height and width of the input.
        channels: of the input.
        batch: images.
        dtype: `"float32"` or `"bfloat16"` (float32 variables).
    """
    import keras
    import tensorflow as tf

    from keras_resnets.layers import BatchNormalization, batch_norm

    keras.config.set_dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
    batch_norm._VECTOR = 1 if implementation == "not filled up" else 16
    kind = keras.layers.BatchNormalization if implementation == "stock" else BatchNormalization
    layer = kind(momentum=0.9, epsilon=1e-5)
    layer.build((batch, size, size, channels))
    values = random_values(batch, size, size, channels)
    x = gradient = keras.ops.cast(values, layer.compute_dtype)

    @tf.function
    def compute(x, gradient):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        sources = [x, layer.gamma.value, layer.beta.value]
        return y, tape.gradient(y, sources, output_gradients=gradient)

    compute(x, gradient)  # Traced now, while the setting above holds: contenders share a process.
    return lambda: compute(x, gradient)


def torch_layer(size: int, channels: int, batch: int, dtype: str) -> Callable[[], None]:
    """Prepares PyTorch's batch norm in memory format channels_last; arguments as above."""
    import torch

    torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
    layer = torch.nn.BatchNorm2d(channels)
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    values = torch.from_numpy(random_values(batch, channels, size, size)).to(
        kind, memory_format=torch.channels_last
    )
    x, gradient = values.clone(memory_format=torch.preserve_format).requires_grad_(), values

    def call() -> None:
        x.grad = layer.weight.grad = layer.bias.grad = None
        layer(x).backward(gradient)

    return call
