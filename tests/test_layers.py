"""The layers alone: values, gradients, randomness, unknown sizes, number types and files."""

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies
from keras import ops

import keras_resnets as kr
from keras_resnets.layers import (
    BatchNormalization,
    DropBlock2D,
    DropPath,
    GroupedConv2D,
    PadChannels,
    SplitChannels,
    Subsample2D,
)

HALF_POLICIES = ["mixed_bfloat16", "mixed_float16"]
HALF_TYPE = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def to_numpy(tensor) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def random_array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def relative_error(ours, reference) -> float:
    assert ours.shape == reference.shape
    return np.abs(ours - reference).max() / np.abs(reference).max()


def call_with_gradients(layer, x, cotangent, **arguments):
    """The output of a built layer, then the gradients of x and of each trainable weight."""
    x = ops.convert_to_tensor(x, layer.compute_dtype)
    weights = layer.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **arguments)
            loss = tf.reduce_sum(tf.cast(y, "float32") * cotangent)
        gradients = tape.gradient(loss, [x, *(weight.value for weight in weights)])
    elif keras.backend.backend() == "jax":
        import jax

        state = [variable.value for variable in layer.non_trainable_variables]

        def loss_and_output(x, values):
            y, _ = layer.stateless_call(values, state, x, **arguments)
            return (y.astype("float32") * cotangent).sum(), y

        differentiate = jax.jit(jax.grad(loss_and_output, argnums=(0, 1), has_aux=True))
        (gradient, rest), y = differentiate(x, [weight.value for weight in weights])
        gradients = [gradient, *rest]
    else:
        x = x.detach().requires_grad_()
        y = layer(x, **arguments)
        (y.float() * ops.convert_to_tensor(cotangent)).sum().backward()
        gradients = [x.grad, *(weight.value.grad for weight in weights)]
        y = y.detach()
    return [to_numpy(tensor) for tensor in (y, *gradients)]


def compiled_call_with_gradients(layer, x, cotangent) -> list[np.ndarray]:
    """As `call_with_gradients`, on TensorFlow compiled by XLA for images of any size and number."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def step(x, cotangent):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * cotangent)
        return y, tape.gradient(loss, [x, *(weight.value for weight in layer.weights)])

    any_size = (
        tf.TensorSpec((None, None, None, array.shape[-1]), tf.float32) for array in (x, cotangent)
    )
    y, gradients = step.get_concrete_function(*any_size)(tf.constant(x), tf.constant(cotangent))
    return [to_numpy(tensor) for tensor in (y, *gradients)]


def round_trip(layer: keras.layers.Layer) -> keras.layers.Layer:
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))


# GroupedConv2D -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Grouped:
    """One convolution and the size of its input."""

    height: int
    width: int
    channels: int
    filters: int
    groups: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    dilation: int = 1
    padding: str = "same"
    bias: bool = True

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return (2, self.height, self.width, self.channels)

    @property
    def kernel_sides(self) -> tuple[int, int]:
        return (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel

    def layer(self, layer_class=GroupedConv2D, dtype: str = "float32", **more):
        layer = layer_class(
            self.filters,
            self.kernel,
            strides=self.stride,
            padding=self.padding,
            dilation_rate=self.dilation,
            groups=self.groups,
            use_bias=self.bias,
            kernel_initializer="zeros",
            dtype=dtype,
            **more,
        )
        layer.build(self.input_shape)
        # Random biases, because zeros would hide a bias that is added twice or not at all.
        for seed, weight in enumerate(layer.weights):
            weight.assign(random_array(*weight.shape, seed=seed + 1))
        return layer


GROUPED = [
    Grouped(7, 7, 4, 4, groups=2),
    Grouped(8, 5, 4, 8, groups=4, padding="valid", bias=False),
    Grouped(8, 8, 4, 6, groups=2, stride=2, padding="valid"),
    # At stride 2, "same" pads an even size on one side only and an odd one on both.
    Grouped(9, 6, 4, 8, groups=2, stride=2),
    Grouped(8, 6, 8, 8, groups=4, dilation=2),
    Grouped(9, 11, 4, 4, groups=2, dilation=2, padding="valid", bias=False),
    Grouped(5, 5, 64, 32, groups=32),
    Grouped(6, 4, 32, 64, groups=32, stride=2, bias=False),
    # Depthwise, also with two filters a channel: backends have special cases for it.
    Grouped(7, 6, 6, 6, groups=6),
    Grouped(7, 7, 6, 12, groups=6, kernel=5, stride=2, padding="valid"),
    Grouped(9, 8, 6, 6, groups=6, dilation=2),
    Grouped(3, 4, 8, 4, groups=4, kernel=1),
    Grouped(5, 6, 4, 4, groups=2, kernel=1, stride=2),
    Grouped(5, 8, 4, 4, groups=2, kernel=(1, 3)),
]


def naive_dense(x, kernel, cotangent, setting: Grouped):
    """A convolution without groups, tap by tap: the output and the gradients of x and kernel."""
    stride, dilation = setting.stride, setting.dilation
    sides, padding, sizes = setting.kernel_sides, [], []
    for size, side in zip(x.shape[1:3], sides, strict=True):
        span = (side - 1) * dilation + 1
        if setting.padding == "same":
            sizes.append(-(-size // stride))
            missing = max((sizes[-1] - 1) * stride + span - size, 0)
            padding.append((missing // 2, missing - missing // 2))
        else:
            sizes.append((size - span) // stride + 1)
            padding.append((0, 0))
    padded = np.pad(x, [(0, 0), *padding, (0, 0)])
    y = np.zeros((len(x), *sizes, kernel.shape[-1]))
    cotangent = np.zeros_like(y) if cotangent is None else cotangent
    padded_gradient, kernel_gradient = np.zeros_like(padded), np.zeros_like(kernel)
    for row, column in np.ndindex(*sides):
        seen = (
            slice(None),
            slice(row * dilation, row * dilation + (sizes[0] - 1) * stride + 1, stride),
            slice(column * dilation, column * dilation + (sizes[1] - 1) * stride + 1, stride),
        )
        y += padded[seen] @ kernel[row, column]
        padded_gradient[seen] += cotangent @ kernel[row, column].T
        kernel_gradient[row, column] = np.einsum("nhwi,nhwo->io", padded[seen], cotangent)
    (top, _), (left, _) = padding
    inside = slice(top, top + x.shape[1]), slice(left, left + x.shape[2])
    return y, padded_gradient[:, inside[0], inside[1]], kernel_gradient


def naive_grouped(x, weights, cotangent, setting: Grouped):
    """One dense convolution a group, in float64: output, gradients of x, kernel and bias."""
    kernel, *bias = [np.asarray(weight, "float64") for weight in weights]
    parts = []
    for group in range(setting.groups):
        ins = setting.channels // setting.groups
        outs = setting.filters // setting.groups
        own = slice(group * outs, (group + 1) * outs)
        parts.append(
            naive_dense(
                np.asarray(x[..., group * ins : (group + 1) * ins], "float64"),
                kernel[..., own],
                None if cotangent is None else cotangent[..., own],
                setting,
            )
        )
    y, *gradients = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    if bias:
        y = y + bias[0]
        gradients.append(None if cotangent is None else cotangent.sum(axis=(0, 1, 2)))
    return [y, *gradients]


def check_against_the_naive_oracle(
    setting: Grouped, dtype: str, tolerance: float, implementation=None, jit_compile=False
) -> None:
    layer = setting.layer(dtype=dtype)
    layer.implementation = implementation
    x = random_array(*setting.input_shape)
    cotangent = random_array(*layer.compute_output_shape(setting.input_shape), seed=9)
    call = compiled_call_with_gradients if jit_compile else call_with_gradients
    ours = call(layer, x, cotangent)
    reference = naive_grouped(x, map(to_numpy, layer.weights), cotangent, setting)
    assert len(ours) == len(reference) == 3 + setting.bias
    names = ["output", "gradient of the input", "of the kernel", "of the bias"]
    for name, mine, naive in zip(names, ours, reference, strict=False):
        error = relative_error(mine, naive)
        assert error <= tolerance, f"{dtype} {setting}: {name} differs by {error:.1e}"


# What a layer chooses by itself is one of the two.
@pytest.mark.backend
@pytest.mark.parametrize("implementation", ["native", "blocks"])
@pytest.mark.parametrize("setting", GROUPED, ids=str)
def test_grouped_values_and_all_gradients_equal_those_of_a_naive_oracle(setting, implementation):
    check_against_the_naive_oracle(setting, "float32", 1e-5, implementation)


@pytest.mark.parametrize("setting", GROUPED, ids=str)
def test_grouped_values_and_all_gradients_equal_the_oracle_under_xla(setting):
    check_against_the_naive_oracle(setting, "float32", 1e-5, jit_compile=True)


@pytest.mark.parametrize("setting", [GROUPED[i] for i in (4, 6, 8)], ids=str)
def test_grouped_values_and_gradients_equal_the_oracle_under_xla_in_bfloat16(setting):
    check_against_the_naive_oracle(setting, "mixed_bfloat16", 2e-2, jit_compile=True)


# TensorFlow has gradients of grouped convolutions on a CPU in some types only.
@pytest.mark.backend
@pytest.mark.parametrize("dtype", HALF_POLICIES)
@pytest.mark.parametrize("setting", [GROUPED[i] for i in (3, 4, 6, 8)], ids=str)
def test_grouped_values_and_gradients_equal_the_oracle_under_mixed_precision(setting, dtype):
    layer = setting.layer(dtype=dtype)
    y = layer(random_array(*setting.input_shape))
    assert keras.backend.standardize_dtype(y.dtype) == HALF_TYPE[dtype]
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    check_against_the_naive_oracle(setting, dtype, 2e-2)


@pytest.mark.parametrize("setting", [GROUPED[3], GROUPED[4]], ids=str)
def test_grouped_values_and_gradients_equal_the_oracle_in_float64(setting):
    check_against_the_naive_oracle(setting, "float64", 1e-6)


@strategies.composite
def grouped_settings(draw):
    integers = strategies.integers
    groups = draw(integers(1, 4))
    stride = draw(integers(1, 3))
    return Grouped(
        # At least the widest span of a kernel, so that "valid" leaves something.
        height=draw(integers(5, 8)),
        width=draw(integers(5, 8)),
        channels=groups * draw(integers(1, 3)),
        filters=groups * draw(integers(1, 3)),
        groups=groups,
        kernel=(draw(integers(1, 3)), draw(integers(1, 3))),
        stride=stride,
        dilation=draw(integers(1, 2)) if stride == 1 else 1,
        padding=draw(strategies.sampled_from(["same", "valid"])),
        bias=draw(strategies.booleans()),
    )


# JAX compiles every shape anew.
EXAMPLES = 8 if keras.backend.backend() == "jax" else 30


@pytest.mark.backend
@hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
@hypothesis.given(grouped_settings())
def test_grouped_values_equal_the_oracle_whatever_the_setting(setting):
    layer = setting.layer()
    x = random_array(*setting.input_shape)
    naive, *_ = naive_grouped(x, map(to_numpy, layer.weights), None, setting)
    assert relative_error(to_numpy(layer(x)), naive) <= 1e-5


@pytest.mark.backend
@pytest.mark.parametrize("setting", GROUPED[:6], ids=str)
def test_inferred_shapes_of_the_grouped_convolution_are_the_real_ones(setting):
    layer = setting.layer()
    real = tuple(layer(random_array(*setting.input_shape)).shape)
    assert layer.compute_output_shape(setting.input_shape) == real
    assert layer(keras.Input(setting.input_shape[1:])).shape == (None, *real[1:])
    unknown = (None, None, None, setting.filters)
    assert layer.compute_output_shape((None, None, None, setting.channels)) == unknown
    assert layer(keras.Input((None, None, setting.channels))).shape == unknown


@pytest.mark.backend
@pytest.mark.parametrize("setting", [GROUPED[3], GROUPED[4]], ids=str)
def test_one_grouped_model_takes_images_of_every_size_and_batch(setting):
    layer = setting.layer()
    images = keras.Input((None, None, setting.channels))
    model = keras.Model(images, layer(images))
    for shape in [(1, 6, 9), (3, 5, 4)]:
        x = random_array(*shape, setting.channels)
        naive, *_ = naive_grouped(x, map(to_numpy, layer.weights), None, setting)
        assert relative_error(model.predict(x, verbose=0), naive) <= 1e-5


@pytest.mark.backend
def test_the_grouped_layer_has_the_weights_and_values_of_the_stock_layer():
    setting = Grouped(4, 4, 4, 4, groups=2)
    ours, stock = setting.layer(), setting.layer(keras.layers.Conv2D)
    assert [w.name for w in ours.weights] == [w.name for w in stock.weights]
    stock.set_weights(ours.get_weights())
    x = random_array(*setting.input_shape)
    assert relative_error(to_numpy(ours(x)), to_numpy(stock(x))) <= 1e-5


@pytest.mark.backend
def test_the_grouped_layer_survives_serialization():
    layer = GroupedConv2D(
        8,
        (3, 5),
        strides=2,
        padding="same",
        groups=4,
        activation="relu",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(1e-4),
        name="conv",
        dtype="mixed_bfloat16",
    )
    copy = round_trip(layer)
    assert type(copy) is GroupedConv2D
    assert copy.get_config() == layer.get_config()
    assert (copy.groups, copy.kernel_size, copy.strides, copy.use_bias) == (4, (3, 5), (2, 2), 0)
    x = random_array(2, 6, 6, 8)
    layer.build(x.shape), copy.build(x.shape)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(to_numpy(copy(x)), to_numpy(layer(x)))


@pytest.mark.backend
def test_groups_that_do_not_divide_are_refused_by_name():
    with pytest.raises(ValueError, match="groups=4, filters=6"):
        GroupedConv2D(6, 3, groups=4)
    with pytest.raises(ValueError, match="groups=4"):
        GroupedConv2D(8, 3, groups=4)(np.ones((1, 5, 5, 6), "float32"))
    with pytest.raises(ValueError, match="groups=0"):
        GroupedConv2D(8, 3, groups=0)


def traced_training(layer, x):
    """A tf.function of a convolution, its bias, a ReLU and all gradients."""
    import tensorflow as tf

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.nn.relu(layer(x))
        return y, tape.gradient(y, [x, *(weight.value for weight in layer.trainable_variables)])

    return step.get_concrete_function(tf.TensorSpec((None, None, None, x.shape[-1]), x.dtype))


def test_a_traced_grouped_convolution_holds_no_nested_function():
    """Keras' own layer hides it in an XLA-compiled call: slow to train, no export to ONNX."""
    x = ops.ones((1, 5, 5, 8))
    graph = traced_training(Grouped(5, 5, 8, 8, groups=4).layer(), x).graph
    types = {operation.type for operation in graph.get_operations()}
    assert "Conv2D" in types
    assert {"Conv2DBackpropInput", "Conv2DBackpropFilter"} <= types
    assert not [name for name in types if "PartitionedCall" in name or "Xla" in name]
    assert not graph.as_graph_def().library.function


@pytest.mark.parametrize(
    ("implementation", "jit_compile", "convolutions"),
    [(None, False, 1), (None, True, 2), ("native", True, 1), ("blocks", False, 2)],
)
def test_the_implementation_is_chosen_by_the_compiler_or_set(
    implementation, jit_compile, convolutions
):
    """Two blocks of 16 channels under XLA, which has no good grouped convolution for CPUs."""
    import tensorflow as tf

    layer = Grouped(6, 6, 32, 32, groups=8).layer()
    layer.implementation = implementation
    call = tf.function(lambda x: layer(x), jit_compile=jit_compile)
    graph = call.get_concrete_function(tf.TensorSpec((None, 6, 6, 32))).graph
    types = [operation.type for operation in graph.get_operations()]
    assert types.count("Conv2D") == convolutions


def test_an_unknown_implementation_is_refused_by_name():
    layer = Grouped(6, 6, 8, 8, groups=4).layer()
    layer.implementation = "fast"
    with pytest.raises(ValueError, match="implementation='fast'"):
        layer(np.ones((1, 6, 6, 8), "float32"))


def test_a_set_implementation_is_not_saved():
    layer = Grouped(6, 6, 8, 8, groups=4).layer()
    layer.implementation = "blocks"
    assert round_trip(layer).implementation is None


# TensorFlow fuses these three operations and refuses groups there, when it runs and not before.
@pytest.mark.parametrize("dtype", ["float32", *HALF_POLICIES])
def test_convolution_bias_and_relu_run_traced_and_without_gradients(dtype):
    import tensorflow as tf

    setting = Grouped(6, 5, 8, 8, groups=4)
    layer = setting.layer(dtype=dtype)
    x = random_array(*setting.input_shape)
    naive, *_ = naive_grouped(x, map(to_numpy, layer.weights), None, setting)
    ours = to_numpy(tf.function(lambda x: tf.nn.relu(layer(x)))(x))
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    assert relative_error(ours, np.maximum(naive, 0)) <= tolerance


WITHOUT_ONEDNN = """
import test_layers as t

for setting in t.GROUPED:
    t.check_against_the_naive_oracle(setting, "float32", 1e-5)
for dtype in t.HALF_POLICIES:
    t.check_against_the_naive_oracle(t.GROUPED[4], dtype, 2e-2)

for channels in (16, 27):
    t.check_normalization(channels, "float32", 1e-5)
    t.check_normalization(channels, "mixed_bfloat16", 2e-2)

for dtype in ["float32", *t.HALF_POLICIES]:
    t.test_convolution_bias_and_relu_run_traced_and_without_gradients(dtype)

# First asked for while a graph is traced is another way into the layer than eagerly, above.
t.keras.backend.clear_session()
t.sys.modules["keras_resnets.layers.grouped_conv"]._tensorflow_has_grouped_gradients.cache_clear()
x = t.ops.convert_to_tensor(t.random_array(2, 7, 6, 64))
step = t.traced_training(t.Grouped(7, 6, 64, 64, groups=8, dilation=2).layer(), x)
step(x)
types = [operation.type for operation in step.graph.get_operations()]
print("convolutions:", types.count("Conv2D"))
"""


@pytest.mark.long
def test_without_onednn_everything_still_equals_the_oracle():
    """There TensorFlow's grouped convolution has no gradients, and no fused bias and ReLU."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONEDNN],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_ENABLE_ONEDNN_OPTS": "0"}
        | {"PYTHONPATH": os.pathsep.join(["tests", *sys.path])},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    # One a block of 16 channels: had oneDNN been on after all, there would be one, and nothing
    # tested.
    assert "convolutions: 4" in result.stdout


def test_grouped_training_loses_the_same_with_and_without_xla():
    losses = []
    for jit_compile in (False, True):
        layer = Grouped(6, 6, 8, 8, groups=4).layer()
        model = keras.Sequential(
            [keras.Input((6, 6, 8)), layer, keras.layers.GlobalAveragePooling2D()]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        x, y = random_array(8, 6, 6, 8), random_array(8, 8, seed=5)
        history = model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


# BatchNormalization ------------------------------------------------------------------------------

NORM = dict(momentum=0.9, epsilon=1e-3)


def normalization(channels: int, layer_class=BatchNormalization, **arguments):
    """A layer whose weights are not those of the beginning."""
    layer = layer_class(**{**NORM, **arguments})
    layer.build((None, None, None, channels))
    random = np.random.default_rng(1)
    layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    return layer


def naive_norm(x, gamma, beta, moving_mean, moving_variance, cotangent):
    """Output, gradients of x, gamma and beta, and the moving statistics, in double precision."""
    x, cotangent = x.astype("float64"), cotangent.astype("float64")
    axes, count = (0, 1, 2), np.prod(x.shape[:3])
    mean, variance = x.mean(axes), x.var(axes)
    deviation = np.sqrt(variance + NORM["epsilon"])
    normal = (x - mean) / deviation
    d_gamma, d_beta = (cotangent * normal).sum(axes), cotangent.sum(axes)
    d_x = gamma / deviation * (cotangent - d_beta / count - normal * d_gamma / count)
    momentum = NORM["momentum"]
    moving = [
        momentum * old + (1 - momentum) * new
        for old, new in ((moving_mean, mean), (moving_variance, variance))
    ]
    return normal * gamma + beta, d_x, d_gamma, d_beta, *moving


def check_normalization(channels: int, dtype: str, tolerance: float) -> None:
    layer = normalization(channels, dtype=dtype)
    x, cotangent = (random_array(3, 7, 5, channels, seed=seed) + 0.5 for seed in (2, 3))
    if dtype != "float32":  # What the layer sees of it.
        x = to_numpy(ops.cast(x, HALF_TYPE[dtype]))
    expected = naive_norm(x, *map(to_numpy, layer.weights), cotangent)
    ours = call_with_gradients(layer, x, cotangent, training=True)
    if keras.backend.backend() == "jax":  # Its stateless call leaves the statistics as they are.
        expected = expected[:4]
    else:
        ours += [to_numpy(layer.moving_mean), to_numpy(layer.moving_variance)]
    for value, reference in zip(ours, expected, strict=True):
        assert relative_error(value, reference) <= tolerance


@pytest.mark.backend
@pytest.mark.parametrize("channels", [1, 16, 27])
def test_normalized_values_gradients_and_statistics_equal_those_of_a_naive_oracle(channels):
    check_normalization(channels, "float32", 1e-5)


@pytest.mark.backend
@pytest.mark.parametrize("dtype", HALF_POLICIES)
@pytest.mark.parametrize("channels", [16, 27])
def test_normalized_values_and_gradients_equal_the_oracle_under_mixed_precision(channels, dtype):
    check_normalization(channels, dtype, 2e-2)


def normalizing_types(layer, *, jit_compile=False, shape=(None, None, None, 16), **arguments):
    """The types of the operations of a traced training call."""
    import tensorflow as tf

    call = tf.function(lambda x: layer(x, training=True, **arguments), jit_compile=jit_compile)
    graph = call.get_concrete_function(tf.TensorSpec(shape)).graph
    return {operation.type for operation in graph.get_operations()}


def test_training_normalizes_by_one_operation():
    types = normalizing_types(normalization(16))
    assert "FusedBatchNormV3" in types
    assert not types & {"ConcatV2", "Slice", "Mean", "SquaredDifference"}
    # The gradient of filled up channels is fast through these two only.
    assert {"FusedBatchNormV3", "ConcatV2", "Slice"} <= normalizing_types(
        normalization(27), shape=(None, None, None, 27)
    )


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ({"scale": False}, {}),
        ({"center": False}, {}),
        ({"renorm": True}, {}),
        ({"dtype": "float64"}, {}),
        ({"trainable": False}, {}),
        ({}, {"jit_compile": True}),
        ({}, {"mask": np.ones((2, 4, 4), bool), "shape": (2, 4, 4, 16)}),
    ],
    ids=str,
)
def test_what_the_operation_cannot_do_is_left_to_keras(arguments, more):
    assert "FusedBatchNormV3" not in normalizing_types(normalization(16, **arguments), **more)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 6), -1), ((4, 5, 6), -1), ((4, 6, 5, 5), 1), ((2, 3, 4, 5, 6), -1)]
)
def test_every_rank_and_axis_is_normalized_as_by_keras(shape, axis):
    x = random_array(*shape)
    ours, theirs = (
        layer_class(axis=axis, **NORM)
        for layer_class in (BatchNormalization, keras.layers.BatchNormalization)
    )
    np.testing.assert_array_equal(
        to_numpy(ours(x, training=True)), to_numpy(theirs(x, training=True))
    )


@pytest.mark.backend
def test_a_frozen_norm_keeps_and_uses_its_statistics():
    layer = normalization(16, trainable=False)
    before = [to_numpy(weight) for weight in layer.weights]
    x = random_array(2, 4, 4, 16)
    gamma, beta, mean, variance = before
    expected = (x - mean) / np.sqrt(variance + NORM["epsilon"]) * gamma + beta
    assert relative_error(to_numpy(layer(x, training=True)), expected) <= 1e-5
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)


@pytest.mark.backend
def test_weights_of_keras_own_norm_fit_both_ways(tmp_path):
    first, second = (
        keras.Sequential([keras.Input((4, 4, 27)), normalization(27, layer_class)])
        for layer_class in (BatchNormalization, keras.layers.BatchNormalization)
    )
    x = random_array(2, 4, 4, 27)
    for source, target in ((first, second), (second, first)):
        source.set_weights([weight * 1.5 for weight in source.get_weights()])
        source.save_weights(tmp_path / "norm.weights.h5")
        target.load_weights(tmp_path / "norm.weights.h5")
        assert relative_error(to_numpy(target(x)), to_numpy(source(x))) == 0


# DropPath and DropBlock2D: what they share -------------------------------------------------------

DROPPERS = {"DropPath": DropPath, "DropBlock2D": partial(DropBlock2D, block_size=3)}
each_dropper = pytest.mark.parametrize("dropper", DROPPERS.values(), ids=DROPPERS.keys())


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, "float32")


def trained(layer, x) -> np.ndarray:
    return to_numpy(layer(x, training=True))


@pytest.mark.backend
@each_dropper
def test_dropping_is_the_identity_at_inference(dropper):
    layer, x = dropper(0.5), random_array(8, 6, 6, 3)
    np.testing.assert_array_equal(to_numpy(layer(x)), x)
    np.testing.assert_array_equal(to_numpy(layer(x, training=False)), x)


@pytest.mark.backend
@each_dropper
def test_a_rate_of_zero_changes_nothing_in_training(dropper):
    x = random_array(64, 6, 6, 3)
    np.testing.assert_array_equal(trained(dropper(0.0), x), x)
    np.testing.assert_array_equal(trained(dropper(0), x), x)


@pytest.mark.backend
@each_dropper
def test_a_seed_repeats_the_drops_and_two_calls_differ(dropper):
    x = random_array(64, 6, 6, 3)
    layer, twin, other = dropper(0.3, seed=7), dropper(0.3, seed=7), dropper(0.3, seed=8)
    first, second = trained(layer, x), trained(layer, x)
    assert (first != second).any()
    np.testing.assert_array_equal(trained(twin, x), first)
    np.testing.assert_array_equal(trained(twin, x), second)
    assert (trained(other, x) != first).any()
    assert (trained(dropper(0.3), x) != trained(dropper(0.3), x)).any()


@pytest.mark.backend
@each_dropper
def test_gradients_pass_only_where_values_pass_and_with_the_same_scale(dropper):
    layer, x = dropper(0.3, seed=3), random_array(16, 8, 8, 2)
    layer.build(x.shape)
    cotangent = random_array(*x.shape, seed=4)
    y, gradient = call_with_gradients(layer, x, cotangent, training=True)
    assert (y == 0).any()
    np.testing.assert_allclose(gradient, cotangent * (y / x), rtol=1e-5)


@each_dropper
def test_a_moved_rate_takes_effect_without_another_trace(dropper):
    import tensorflow as tf

    layer, traces = dropper(0.0), []

    @tf.function
    def step(x):
        traces.append(1)
        return layer(x, training=True)

    x = tf.ones((64, 6, 6, 3))
    layer.build(x.shape)  # Else tf.function traces twice, to create the variables.
    assert (step(x).numpy() == 1).all()
    layer.rate = 0.5
    assert (step(x).numpy() == 0).any()
    layer.rate = 0.0
    assert (step(x).numpy() == 1).all()
    assert len(traces) == 1


def averaging_model(layer) -> keras.Model:
    """Averages every sample. It never learns: with targets of 1, its loss tells of drops alone."""
    average = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(1 / 4))
    pool = keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input((6, 6, 4)), layer, pool, average])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


@pytest.mark.backend
@each_dropper
def test_a_callback_moves_the_rate_of_a_compiled_model(dropper):
    """A rate baked into the compiled step would keep its first value: nothing would be lost."""
    layer = dropper(0.0)
    rates = [0.0, 0.5, 0.0]
    mover = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(layer, "rate", rates[epoch])
    )
    history = averaging_model(layer).fit(
        ones(64, 6, 6, 4), ones(64, 1), batch_size=16, epochs=3, callbacks=[mover], verbose=0
    )
    before, dropping, after = history.history["loss"]
    assert before < 1e-6
    assert dropping > 1e-2
    assert after < 1e-6


@pytest.mark.backend
@each_dropper
def test_the_rate_moves_between_single_training_steps(dropper):
    layer = dropper(0.0)
    model = averaging_model(layer)
    losses = []
    for rate in (0.0, 0.5, 0.0):
        layer.rate = rate
        losses.append(float(model.train_on_batch(ones(64, 6, 6, 4), ones(64, 1))))
        model.reset_metrics()
        assert layer.rate == rate
    assert losses[0] < 1e-6
    assert losses[1] > 1e-2
    assert losses[2] < 1e-6


@pytest.mark.backend
@pytest.mark.parametrize("dtype", HALF_POLICIES)
@each_dropper
def test_dropping_keeps_the_type_and_the_exact_rate_under_mixed_precision(dropper, dtype):
    layer = dropper(0.1, dtype=dtype, seed=1)
    x = ops.cast(ones(64, 6, 6, 3), HALF_TYPE[dtype])
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == HALF_TYPE[dtype]
    y = to_numpy(y)
    assert (y == 0).any()
    kept = y[y != 0]
    assert len(np.unique(kept)) == 1
    # DropBlock2D measures what it kept, DropPath divides by the probability.
    expected = 1 / (1 - 0.1) if isinstance(layer, DropPath) else y.size / len(kept)
    assert kept[0] == pytest.approx(expected, rel=1e-2)
    assert layer.rate == pytest.approx(0.1, rel=1e-6), "bfloat16 would make it 0.1001"


@pytest.mark.backend
@each_dropper
def test_dropping_takes_batches_of_every_size(dropper):
    images = keras.Input((6, 6, 3))
    outputs = dropper(0.4, seed=2)(images)
    assert outputs.shape == images.shape == (None, 6, 6, 3)
    model = keras.Model(images, outputs)
    for batch in (40, 56):
        y = to_numpy(model(ones(batch, 6, 6, 3), training=True))
        assert y.shape == (batch, 6, 6, 3)
        # The last samples too: a mask of another batch's size would repeat or leave some out.
        assert (y[-20:] == 0).any()
        assert (y[-20:] != 0).any()


@pytest.mark.backend
@pytest.mark.parametrize(
    "rate", [1.0, 1, 1.5, -0.1, float("nan"), True, False, "0.1", None, [0.1]], ids=repr
)
@each_dropper
def test_rates_outside_zero_to_one_are_refused_by_name(dropper, rate):
    with pytest.raises(ValueError, match="rate"):
        dropper(rate)
    layer = dropper(0.25)
    with pytest.raises(ValueError, match="rate"):
        layer.rate = rate
    layer.build((None, 6, 6, 3))
    with pytest.raises(ValueError, match="rate"):
        layer.rate = rate
    assert layer.rate == 0.25


@pytest.mark.backend
@each_dropper
def test_dropping_survives_serialization_with_the_rate_it_was_moved_to(dropper):
    layer = dropper(0.5, seed=11, name="drop", dtype="mixed_bfloat16")
    assert round_trip(layer).get_config() == layer.get_config()
    assert round_trip(layer).rate == 0.5
    layer.rate = 0.375
    assert round_trip(layer).rate == 0.375
    layer.build((None, 6, 6, 3))
    assert layer.rate == 0.375, "moved before it was built"
    layer.rate = 0.125
    copy = round_trip(layer)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    assert copy.built, "as it was: so the rate comes back into the variable"
    assert (copy.rate, copy.seed, copy.name) == (0.125, 11, "drop")
    x = ones(64, 6, 6, 3)
    np.testing.assert_array_equal(trained(copy, x), trained(layer, x))


def small_model(dropper=None) -> keras.Model:
    images = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(images)
    x = dropper(0.5, name="drop")(x) if dropper else x
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, keras.layers.Dense(2, name="head")(x))


def arrays_in(path: Path) -> int:
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: found.append(item) if hasattr(item, "shape") else None)
        return len(found)


@pytest.mark.backend
@each_dropper
def test_weight_files_fit_models_with_and_without_dropping(dropper, tmp_path):
    x = random_array(4, 6, 6, 3)
    for source, target in [(None, dropper), (dropper, None), (dropper, dropper)]:
        source, target = small_model(source), small_model(target)
        before = target.predict(x, verbose=0)
        if target.layers[2].name == "drop":
            target.get_layer("drop").rate = 0.25
        path = tmp_path / "of.weights.h5"
        source.save_weights(path)
        assert arrays_in(path) == 4, "kernel and bias of the convolution and of the head"
        target.load_weights(path)
        after = target.predict(x, verbose=0)
        assert (after != before).any()
        np.testing.assert_array_equal(after, source.predict(x, verbose=0))
        if target.layers[2].name == "drop":
            assert target.get_layer("drop").rate == 0.25, "the file must not move the rate"


@pytest.mark.backend
@each_dropper
def test_a_whole_saved_model_comes_back_with_its_moved_rate(dropper, tmp_path):
    model = small_model(dropper)
    model.get_layer("drop").rate = 0.25
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("drop").rate == 0.25
    assert (trained(loaded, ones(64, 6, 6, 3)) != to_numpy(loaded(ones(64, 6, 6, 3)))).any()
    x = random_array(4, 6, 6, 3)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.backend
@each_dropper
def test_a_model_that_drops_learns(dropper):
    model = small_model(dropper)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = random_array(22, 6, 6, 3)
    # The last batch is smaller than the others.
    history = model.fit(x, ones(22, 2), batch_size=8, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]


# DropPath ----------------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize(
    "rest", [(), (3,), (5, 3), (4, 5, 3)], ids=lambda rest: f"rank{len(rest) + 1}"
)
def test_a_sample_is_dropped_as_a_whole_or_kept_and_scaled(rest):
    x = 1 + np.abs(random_array(100, *rest))
    y = trained(DropPath(0.3, seed=5), x)
    ratio = (y / x).reshape(100, -1)
    # Within a sample all alike: a mask of the input's whole shape would be plain dropout.
    np.testing.assert_allclose(ratio, np.repeat(ratio[:, :1], ratio.shape[1], axis=1), rtol=1e-6)
    dropped = ratio[:, 0] == 0
    # And not all samples alike: a mask of one value would drop the whole batch.
    assert 0 < dropped.sum() < 100
    np.testing.assert_allclose(ratio[~dropped], 1 / 0.7, rtol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_the_fraction_of_dropped_samples_is_the_rate_and_the_mean_stays(rate):
    samples = 4000
    y = trained(DropPath(rate, seed=21), ones(samples, 2, 2, 1))[:, 0, 0, 0]
    deviation = np.sqrt(rate * (1 - rate) / samples)
    assert abs((y == 0).mean() - rate) < 5 * deviation
    assert abs(y.mean() - 1) < 5 * deviation / (1 - rate)
    # Neighbours in the batch are independent.
    dropped = (y == 0).astype("float64")
    assert abs(np.corrcoef(dropped[1:], dropped[:-1])[0, 1]) < 5 / np.sqrt(samples)


# DropBlock2D -------------------------------------------------------------------------------------


def squares(block_size: int, height: int, width: int):
    """Every place where a square fits. Of a map that is too small, all of that axis."""
    high, wide = min(block_size, height), min(block_size, width)
    for top, left in np.ndindex(height - high + 1, width - wide + 1):
        yield slice(top, top + high), slice(left, left + wide)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("height", "width", "block_size"),
    [
        (11, 14, 2),
        (13, 12, 4),
        (14, 14, 7),
        (3, 9, 7),
        (9, 4, 6),
        (4, 4, 7),
        (5, 6, 1),
    ],
)
def test_what_is_dropped_are_whole_squares_anywhere_within_the_map(height, width, block_size):
    y = trained(DropBlock2D(0.05, block_size, seed=3), ones(64, height, width, 64))
    zeros = y == 0
    explained = np.zeros_like(zeros)
    for rows, columns in squares(block_size, height, width):
        whole = zeros[:, rows, columns].all(axis=(1, 2), keepdims=True)
        explained[:, rows, columns] |= whole
    # A square that crosses the border would leave a strip that no whole square explains.
    np.testing.assert_array_equal(zeros, explained)
    # The smallest drop is one square: not larger than asked for either.
    counts = zeros.sum(axis=(1, 2))
    assert counts[counts > 0].min() == min(block_size, height) * min(block_size, width)
    # Off by one, the centres of even squares would never reach the last row or column.
    assert zeros.any(axis=(0, 3)).all()


@pytest.mark.backend
@pytest.mark.parametrize("rate", [0.02, 0.1])
@pytest.mark.parametrize(
    ("height", "width", "block_size"),
    [(9, 14, 4), (10, 10, 3), (7, 7, 7), (4, 4, 7), (3, 9, 7), (6, 5, 1)],
)
def test_the_dropped_fraction_follows_equation_1(height, width, block_size, rate):
    # Ghiasi et al., equation 1, for sides that may differ after clipping to the map.
    places = list(squares(block_size, height, width))
    side_product = min(block_size, height) * min(block_size, width)
    gamma = rate / side_product * (height * width) / len(places)
    covering = np.zeros((height, width))
    for place in places:
        covering[place] += 1
    expected = (1 - (1 - gamma) ** covering).mean()

    y = trained(DropBlock2D(rate, block_size, seed=6), ones(200, height, width, 24))
    fractions = (y == 0).mean(axis=(1, 2))
    error = 5 * fractions.std() / np.sqrt(fractions.size)
    assert 0 < error < rate / 1.5, "enough maps to tell"
    assert abs(fractions.mean() - expected) < error
    # Overlaps are all that is missing from the rate: at most half the square of gamma * area.
    assert abs(fractions.mean() - rate) < error + (gamma * covering.max()) ** 2 / 2


@pytest.mark.backend
def test_channels_and_samples_lose_different_squares():
    y = trained(DropBlock2D(0.1, 3, seed=9), ones(128, 10, 10, 64))
    zeros = (y == 0).astype("float64")
    # Of two maps a cell drops in both: the square of its probability, or, if shared, all of it.
    independent = (zeros.mean(axis=(0, 3)) ** 2).mean()
    assert independent < 0.2 * zeros.mean()
    assert (zeros[..., 1:] * zeros[..., :-1]).mean() == pytest.approx(independent, rel=0.2)
    assert (zeros[1:] * zeros[:-1]).mean() == pytest.approx(independent, rel=0.2)


@pytest.mark.backend
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_survives_is_scaled_to_a_mean_of_one(rate):
    y = trained(DropBlock2D(rate, 3, seed=2), ones(16, 9, 8, 8))
    assert y.mean(dtype="float64") == pytest.approx(1, rel=1e-5)
    kept = y[y != 0]
    np.testing.assert_allclose(kept, y.size / kept.size, rtol=1e-5)
    x = random_array(16, 9, 8, 8)
    np.testing.assert_allclose(trained(DropBlock2D(rate, 3, seed=2), x), x * y, rtol=1e-5)


@pytest.mark.backend
@pytest.mark.parametrize("dtype", ["float32", *HALF_POLICIES])
def test_a_batch_that_is_dropped_altogether_is_zero_and_not_nan(dtype):
    layer = DropBlock2D(0.9, 7, seed=1, dtype=dtype)
    values = np.array([trained(layer, ones(1, 2, 3, 1)).max() for _ in range(30)])
    assert np.isfinite(values).all()
    assert (values == 0).any()
    assert (values == 1).any()


@pytest.mark.backend
def test_drop_block_trains_on_images_of_unknown_size():
    images = keras.Input((None, None, 4))
    x = DropBlock2D(0.3, 5, name="drop")(images)
    assert x.shape == (None, None, None, 4)
    x = keras.layers.GlobalAveragePooling2D()(x)
    fixed = keras.initializers.Constant(1 / 4)
    model = keras.Model(images, keras.layers.Dense(1, kernel_initializer=fixed)(x))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    # The second size is smaller than the square, which must not be that of the first trace.
    for height, width in [(8, 11), (3, 4)]:
        loss = model.fit(ones(30, height, width, 4), ones(30, 1), batch_size=15, verbose=0)
        assert 1e-4 < loss.history["loss"][0] < 10
        y = trained(model.get_layer("drop"), ones(64, height, width, 4))
        counts = (y == 0).sum(axis=(1, 2))
        assert counts[counts > 0].min() == min(5, height) * min(5, width)


@pytest.mark.backend
@pytest.mark.parametrize("block_size", [0, -1, 1.5, True, "3", None], ids=repr)
def test_block_sizes_that_are_no_positive_int_are_refused_by_name(block_size):
    with pytest.raises(ValueError, match="block_size"):
        DropBlock2D(0.1, block_size)


@pytest.mark.backend
def test_the_block_size_is_part_of_the_configuration():
    assert round_trip(DropBlock2D(0.1, block_size=4)).block_size == 4


# SplitChannels and PadChannels -------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(2, 12), (2, 5, 12), (2, 4, 3, 12)])
@pytest.mark.parametrize("sections", [1, 3, 12])
def test_split_channels_cuts_equal_slices_in_order(shape, sections):
    layer, x = SplitChannels(sections), random_array(*shape)
    slices = layer(x)
    assert isinstance(slices, list)
    assert len(slices) == sections
    shapes = layer.compute_output_shape(shape)
    width = 12 // sections
    for index, (part, inferred) in enumerate(zip(slices, shapes, strict=True)):
        assert tuple(part.shape) == tuple(inferred)
        np.testing.assert_array_equal(to_numpy(part), x[..., index * width : (index + 1) * width])


@pytest.mark.backend
@pytest.mark.parametrize(("channels", "more"), [(5, 0), (5, 1), (3, 13)])
@pytest.mark.parametrize("rest", [(2,), (2, 4), (2, 4, 3)])
def test_pad_channels_appends_zeros_behind_the_input(rest, channels, more):
    layer, x = PadChannels(channels + more), random_array(*rest, channels)
    y = to_numpy(layer(x))
    assert y.shape == layer.compute_output_shape(x.shape) == (*rest, channels + more)
    np.testing.assert_array_equal(y[..., :channels], x)
    assert (y[..., channels:] == 0).all()


@pytest.mark.backend
def test_split_and_pad_take_unknown_sizes():
    images = keras.Input((None, None, 6))
    first, second = SplitChannels(2)(images)
    padded = PadChannels(8)(second)
    assert first.shape == second.shape == (None, None, None, 3)
    assert padded.shape == (None, None, None, 8)
    model = keras.Model(images, [first, padded])
    for shape in [(1, 4, 5), (3, 2, 2)]:
        x = random_array(*shape, 6)
        first, padded = model.predict(x, verbose=0)
        np.testing.assert_array_equal(first, x[..., :3])
        np.testing.assert_array_equal(padded, np.pad(x[..., 3:], [(0, 0)] * 3 + [(0, 5)]))


@pytest.mark.backend
@pytest.mark.parametrize("dtype", HALF_POLICIES)
def test_split_and_pad_keep_the_type_under_mixed_precision(dtype):
    x = ops.cast(random_array(2, 3, 3, 4), HALF_TYPE[dtype])
    second = SplitChannels(2, dtype=dtype)(x)[1]
    padded = PadChannels(6, dtype=dtype)(x)
    for y, expected in [
        (second, to_numpy(x)[..., 2:]),
        (padded, np.pad(to_numpy(x), [(0, 0)] * 3 + [(0, 2)])),
    ]:
        assert keras.backend.standardize_dtype(y.dtype) == HALF_TYPE[dtype]
        np.testing.assert_array_equal(to_numpy(y), expected)


@pytest.mark.backend
def test_split_and_pad_survive_serialization():
    split = round_trip(SplitChannels(3, name="cut", dtype="mixed_bfloat16"))
    assert (type(split), split.sections, split.name) == (SplitChannels, 3, "cut")
    pad = round_trip(PadChannels(9, name="widen", dtype="mixed_bfloat16"))
    assert (type(pad), pad.channels, pad.name) == (PadChannels, 9, "widen")
    assert split.compute_dtype == pad.compute_dtype == "bfloat16"


@pytest.mark.backend
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "2", None], ids=repr)
def test_sections_and_channels_that_are_no_positive_int_are_refused_by_name(value):
    with pytest.raises(ValueError, match="sections="):
        SplitChannels(value)
    with pytest.raises(ValueError, match="channels="):
        PadChannels(value)


@pytest.mark.backend
def test_inputs_that_cannot_be_cut_or_widened_are_refused_with_their_shape():
    with pytest.raises(ValueError, match=r"sections=4, input shape \(None, 5, 5, 6\)"):
        SplitChannels(4)(keras.Input((5, 5, 6)))
    with pytest.raises(ValueError, match=r"channels=4, input shape \(None, 5, 5, 6\)"):
        PadChannels(4)(keras.Input((5, 5, 6)))


# Subsample2D --------------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize(
    ("height", "width", "stride"), [(8, 8, 2), (9, 7, 2), (7, 10, 3), (5, 4, 1)]
)
def test_every_nth_pixel_stays(height, width, stride):
    layer, x = Subsample2D(stride), random_array(2, height, width, 3)
    expected = x[:, ::stride, ::stride]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x)), expected)
    assert layer.compute_output_shape(x.shape) == expected.shape
    unknown = keras.Input((None, None, 3))
    assert layer(unknown).shape == (None, None, None, 3)
    np.testing.assert_array_equal(keras.Model(unknown, layer(unknown))(x), expected)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (type(again), again.stride, again.name) == (Subsample2D, stride, layer.name)


@pytest.mark.parametrize("stride", [0, -1, 1.5, True, "2"])
def test_a_stride_that_is_no_count_is_refused(stride):
    with pytest.raises(ValueError, match=r"stride must be a positive int\. Received: stride="):
        Subsample2D(stride)


@pytest.mark.backend
def test_a_compiled_shortcut_of_cifar_networks_equals_the_uncompiled_one():
    """A pooling of window 1 in its place came out wrong here, and nowhere else: jitted, on JAX."""
    model = kr.ResNet20(weights=None, depths=(1, 2), planes=(24, 32))
    for weight in model.weights:
        low, high = (0.5, 1.5) if weight.name in ("gamma", "moving_variance") else (-0.3, 0.3)
        weight.assign(np.random.RandomState(len(weight.shape)).uniform(low, high, weight.shape))
    network = keras.Model(model.input, model.get_layer("P3").output)
    x = random_array(2, 64, 96, 3)
    eager = keras.ops.convert_to_numpy(network(x))
    np.testing.assert_allclose(
        network.predict_on_batch(x), eager, rtol=0, atol=1e-5 * np.abs(eager).max()
    )
