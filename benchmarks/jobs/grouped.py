"""One grouped 3x3 convolution, forward or forward and backward, by framework."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np


def random_values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, "float32")


def keras_layer(
    implementation: str,
    size: int,
    channels: int,
    groups: int,
    stride: int,
    batch: int,
    dtype: str,
    backward: bool,
    jit_compile: bool,
) -> Callable[[], None]:
    """Prepares a Keras layer on TensorFlow or JAX, in one compiled function.

    Args:
        implementation: `"ours"`, `"stock"` (`keras.layers.Conv2D`) or `"split"`: one convolution a
            group, and a concatenation.
        size: height and width of the input.
        channels: of the input and of the output.
        groups: number of groups.
        stride: 1 or 2.
        batch: images.
        dtype: `"float32"` or `"bfloat16"` (float32 variables).
        backward: whether the gradients of input and kernel are computed, too.
        jit_compile: whether XLA compiles the function. JAX always does.
    """
    import keras

    from keras_resnets.layers import GroupedConv2D

    keras.config.set_dtype_policy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
    kind = {"ours": GroupedConv2D, "stock": keras.layers.Conv2D, "split": _split_layer(keras)}
    layer = kind[implementation](
        channels, 3, strides=stride, padding="same", groups=groups, use_bias=False
    )
    layer.build((batch, size, size, channels))
    out = -(-size // stride)
    x = keras.ops.cast(random_values(batch, size, size, channels), layer.compute_dtype)
    gradient = keras.ops.cast(random_values(batch, out, out, channels), layer.compute_dtype)
    prepare = {"tensorflow": _on_tensorflow, "jax": _on_jax}[keras.backend.backend()]
    return prepare(layer, x, gradient, backward, jit_compile)


def _split_layer(keras: Any) -> type:
    class SplitConv2D(keras.layers.Conv2D):
        """The work-around that people write by hand."""

        def convolution_op(self, inputs, kernel):
            ops = keras.ops
            pairs = zip(
                ops.split(inputs, self.groups, axis=-1),
                ops.split(kernel, self.groups, axis=-1),
                strict=True,
            )
            return ops.concatenate(
                [ops.conv(x, k, strides=self.strides, padding=self.padding) for x, k in pairs],
                axis=-1,
            )

    return SplitConv2D


def _on_tensorflow(
    layer: Any, x: Any, gradient: Any, backward: bool, jit_compile: bool
) -> Callable[[], None]:
    import tensorflow as tf

    @tf.function(jit_compile=jit_compile)
    def compute(x, gradient):
        if not backward:
            return layer(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, layer.kernel.value], output_gradients=gradient)

    def call() -> None:
        compute(x, gradient)
        tf.test.experimental.sync_devices()  # On a CPU the call itself waits.

    return call


def _on_jax(
    layer: Any, x: Any, gradient: Any, backward: bool, jit_compile: bool
) -> Callable[[], None]:
    import jax

    kernel = layer.kernel.value

    def forward(x, kernel):
        return layer.stateless_call([kernel], [], x)[0]

    @jax.jit
    def compute(x, kernel, gradient):
        if not backward:
            return forward(x, kernel)
        y, pull_back = jax.vjp(forward, x, kernel)
        return y, pull_back(gradient)

    return lambda: jax.block_until_ready(compute(x, kernel, gradient))


def torch_layer(
    size: int, channels: int, groups: int, stride: int, batch: int, dtype: str, backward: bool
) -> Callable[[], None]:
    """Prepares PyTorch's convolution in memory format channels_last; arguments as above."""
    import torch

    torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
    layer = torch.nn.Conv2d(
        channels, channels, 3, stride=stride, padding=1, groups=groups, bias=False
    ).to(memory_format=torch.channels_last)
    out = -(-size // stride)
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    x, gradient = (
        torch.randn(batch, channels, side, side).to(kind, memory_format=torch.channels_last)
        for side in (size, out)
    )

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            if not backward:
                with torch.inference_mode():
                    layer(x)
                return
            y = layer(x)
        x.grad = layer.weight.grad = None
        y.backward(gradient)

    x.requires_grad_(backward)
    return call
